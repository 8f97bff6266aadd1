//! What MACs and checksums are made over.

/// Bytes from which every part can be told, so that no two lists of parts are one.
#[derive(Default)]
pub(crate) struct Parts(Vec<u8>);

impl Parts {
    pub(crate) fn push(&mut self, part: &[u8]) {
        self.0.extend((part.len() as u64).to_be_bytes());
        self.0.extend(part);
    }

    pub(crate) fn push_optional(&mut self, part: Option<&[u8]>) {
        self.0.push(part.is_some().into());
        self.push(part.unwrap_or_default());
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
