//! Changing the keys of an issuer while it works.

use std::sync::Arc;

use crate::{JwtIssuer, KeyRing, SelfTestError};

impl JwtIssuer {
    /// Puts `keys` in place of those in use, at once for all who come from now on. If they prove nothing, those in
    /// use stay.
    pub fn replace_keys(&self, keys: KeyRing) -> Result<(), SelfTestError> {
        let successor = Self::new(keys, self.profile.clone(), self.clock.clone(), self.entropy.clone())?;
        *self.keys.write() = successor.keys();
        Ok(())
    }

    /// The id of the key that signs now.
    pub fn signing_key_id(&self) -> String {
        self.keys().signing_key_id(self.clock.now()).to_owned()
    }

    /// The keys in use. Whoever has taken them works on with them, though others take their place: the lock is held
    /// for as long as it takes to count one more reader.
    pub(crate) fn keys(&self) -> Arc<KeyRing> {
        self.keys.read().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use domain::InvalidToken;
    use domain::ports::TokenIssuer;

    use super::*;
    use crate::tests::{FixedEntropy, HandClock, NOW, at, bearer, grant, part, profile};
    use crate::{KeyPair, KeyPairAlgorithm, StoredKey};

    fn issuer(keys: KeyRing, clock: &Arc<HandClock>) -> JwtIssuer {
        JwtIssuer::new(keys, profile(), clock.clone(), Arc::new(FixedEntropy)).unwrap()
    }

    fn ring(algorithm: KeyPairAlgorithm, pairs: &[(&str, i64)]) -> KeyRing {
        let pairs = pairs.iter().map(|(pem, signs_from)| StoredKey {
            pair: KeyPair::from_pem(algorithm, pem).unwrap(),
            created_at: at(0),
            signs_from: at(*signs_from),
        });
        KeyRing::of_pairs(pairs, algorithm).unwrap()
    }

    #[test]
    fn a_rotation_refuses_no_token_until_its_key_is_retired() {
        for algorithm in KeyPairAlgorithm::ALL {
            let [old, new] = [(); 2].map(|()| KeyPair::generate(algorithm).unwrap());
            let (old_pem, new_pem) = (old.to_pem().unwrap(), new.to_pem().unwrap());
            let clock = Arc::new(HandClock(AtomicI64::new(NOW)));
            let issuer = issuer(ring(algorithm, &[(&old_pem, 0)]), &clock);
            let token_at = |seconds: i64| {
                clock.0.store(seconds, Ordering::SeqCst);
                let token = issuer.issue(&domain::Grant { issued_at: at(seconds), ..grant() }).unwrap();
                assert_eq!(issuer.verify(&token.text), Ok(bearer()));
                assert_eq!(part(&token.text, 0)["alg"], algorithm.as_str());
                (part(&token.text, 0)["kid"].as_str().unwrap().to_owned(), token.text)
            };

            let (before, _) = token_at(NOW);
            issuer.replace_keys(ring(algorithm, &[(&old_pem, 0), (&new_pem, NOW + 600)])).unwrap();
            let (announced, last_of_old) = token_at(NOW + 599);
            let (after, first_of_new) = token_at(NOW + 600);

            assert_eq!((&*before, &*announced, &*after), (old.id(), old.id(), new.id()));
            assert_eq!(issuer.signing_key_id(), new.id());
            assert_eq!(issuer.verify(&last_of_old), Ok(bearer()));
            issuer.replace_keys(ring(algorithm, &[(&new_pem, NOW + 600)])).unwrap();
            assert_eq!(issuer.verify(&last_of_old), Err(InvalidToken::Invalid));
            assert_eq!(issuer.verify(&first_of_new), Ok(bearer()));
        }
    }

    #[test]
    fn keys_that_prove_nothing_do_not_take_the_place_of_those_that_do() {
        let clock = Arc::new(HandClock(AtomicI64::new(NOW)));
        let issuer = issuer(KeyRing::hs256(&[7; 32]).unwrap(), &clock);
        let token = issuer.issue(&grant()).unwrap();

        let refused = issuer.replace_keys(KeyRing::broken());

        assert!(refused.is_err());
        assert_eq!(issuer.verify(&token.text), Ok(bearer()));
    }
}
