//! The programs of others that tests run: built once, from the Go modules that `tests/kube/build.sh` knows.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The directory with these programs; builds those that this machine hasn't yet, which takes minutes.
pub fn built(parts: &[&str]) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube/build.sh");
    let output = Command::new(&script).args(parts).stderr(Stdio::inherit()).output().expect("bash, for tests/kube/build.sh");
    assert!(output.status.success(), "{} failed ({}); it says above what is missing", script.display(), output.status);
    PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end())
}
