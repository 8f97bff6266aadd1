//! A backend in Python that verifies tokens with `PyJWT`, and knows the issuer alone.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use super::external_tools::{is_installed, skip};

/// The versions that the README's example was tried with.
const PACKAGES: [&str; 2] = ["pyjwt[crypto]==2.15.1", "cryptography==50.0.2"];

/// As a backend would: the discovery document tells where the keys are and what they are for, and the client keeps
/// them. A token a line comes in, what was found a line goes out; an empty line is the end of what it keeps.
const BACKEND: &str = r#"
import json, sys, urllib.request
import jwt

issuer = sys.argv[1]
with urllib.request.urlopen(issuer + "/.well-known/openid-configuration") as answer:
    known = json.load(answer)
assert known["issuer"] == issuer
algorithms = known["id_token_signing_alg_values_supported"]
keys = jwt.PyJWKClient(known["jwks_uri"])
for line in sys.stdin:
    token = line.strip()
    if not token:
        keys = jwt.PyJWKClient(known["jwks_uri"])
        continue
    try:
        key = keys.get_signing_key_from_jwt(token)
        claims = jwt.decode(token, key, algorithms=algorithms, issuer=issuer, audience="auth-api")
        header = jwt.get_unverified_header(token)
        found = {"sub": claims["sub"], "alg": header["alg"], "kid": header["kid"]}
    except jwt.PyJWTError as error:
        found = {"error": type(error).__name__}
    print(json.dumps(found), flush=True)
"#;

/// The backend, which is ended when it is dropped.
pub(crate) struct PyJwt {
    process: Child,
    tokens: ChildStdin,
    findings: BufReader<ChildStdout>,
}

impl PyJwt {
    /// Starts one for this issuer, unless there is no `PyJWT` and none to be had, which is said loudly.
    pub(crate) fn start(test: &str, issuer: &str) -> Option<Self> {
        let Some(python) = &*PYTHON else {
            skip(test, "python3 with venv, and pip to reach a package index (apt install python3-venv)");
            return None;
        };
        let mut process = Command::new(python)
            .args(["-c", BACKEND, issuer])
            .env("no_proxy", "*")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let tokens = process.stdin.take().unwrap();
        let findings = BufReader::new(process.stdout.take().unwrap());
        Some(Self { process, tokens, findings })
    }

    /// Has it look for keys at the next token, as it does by itself when it has kept them for five minutes. It does not
    /// look twice in half a minute, whatever key a token names.
    pub(crate) fn let_five_minutes_pass(&mut self) {
        writeln!(self.tokens).unwrap();
    }

    /// What it makes of a token.
    pub(crate) fn verify(&mut self, token: &str) -> Value {
        writeln!(self.tokens, "{token}").unwrap();
        let mut line = String::new();
        self.findings.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for PyJwt {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as well.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// A Python that has `PyJWT`, in an environment of its own beside what Cargo builds. Made once, and found there by
/// every later run.
static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let folder = target.join("tools/pyjwt");
    let python = folder.join("bin/python");
    let has_packages = || {
        let versions = "import jwt, cryptography, sys; \
                        sys.exit((jwt.__version__, cryptography.__version__) != tuple(sys.argv[1:]))";
        let asked = PACKAGES.map(|package| package.split_once("==").unwrap().1);
        succeeds(Command::new(&python).args(["-c", versions]).args(asked))
    };
    // Another run of the tests may be at it.
    fs::create_dir_all(target.join("tools")).unwrap();
    let alone = File::create(target.join("tools/pyjwt.lock")).unwrap();
    alone.lock().unwrap();
    if has_packages() || (is_installed("python3") && make(&folder) && has_packages()) {
        Some(python)
    } else {
        None
    }
});

fn make(folder: &Path) -> bool {
    let pip = folder.join("bin/pip");
    succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))
        && succeeds(Command::new(pip).args(["--quiet", "install"]).args(PACKAGES))
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
