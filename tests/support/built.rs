//! The programs of others that tests run: made once, by scripts that know how, in a cache outside the checkout.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The directory with these programs; builds those that this machine hasn't yet, which takes minutes.
pub fn built(parts: &[&str]) -> PathBuf {
    made_by("tests/kube/build.sh", parts)
}

/// What this script of the checkout has made, or finds made: the path that it prints.
pub fn made_by(script: &str, arguments: &[&str]) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new(&script)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{} can't be run: {error}; it needs bash", script.display()));
    assert!(output.status.success(), "{} failed ({}); it says above what is missing", script.display(), output.status);
    PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end())
}
