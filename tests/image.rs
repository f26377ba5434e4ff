//! What `manifests/image/pack` writes: read by another tar reader and checked against the OCI's image specification, and the Dockerfile beside it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io::{Cursor, Read, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tar::{Archive, EntryType};
use tempfile::TempDir;

const NAME: &str = "docker.io/local/dummy:7";
/// `struct vfs_cap_data` of linux/capability.h, as the kernel stores it: revision 2 and the effective flag, permitted `1 << 10`, nothing inheritable.
const NET_BIND_SERVICE: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn the_same_files_make_the_same_image() {
    let (one, other) = (Sample::new(&["a", "b", "c"]), Sample::new(&["c", "a", "b"]));
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    File::open(other.path("binary")).unwrap().set_modified(long_ago).unwrap();
    fs::set_permissions(other.path("tree/a"), Permissions::from_mode(0o600)).unwrap();
    assert!(
        fs::read(one.image()).unwrap() == fs::read(other.image()).unwrap(),
        "order, times and owner's bits of the files show in the image"
    );
    fs::write(other.path("tree/b"), "changed").unwrap();
    assert!(fs::read(one.image()).unwrap() != fs::read(other.image()).unwrap(), "the content doesn't show in the image");
}

#[test]
fn every_reference_leads_to_a_blob_with_its_digest_and_size() {
    let files = Sample::new(&["a"]).outer();
    let index = parsed(&files, "index.json");
    let manifest = parsed(&files, &blob_of(&files, &index["manifests"][0]));
    let config_name = blob_of(&files, &manifest["config"]);
    let layer_name = blob_of(&files, &manifest["layers"][0]);
    let config = parsed(&files, &config_name);

    assert_eq!(parsed(&files, "oci-layout"), json!({"imageLayoutVersion": "1.0.0"}));
    assert_eq!(index["manifests"][0]["annotations"], json!({"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "7"}));
    // The layer is stored as it is, so that its digest is that of its content as well.
    assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": [manifest["layers"][0]["digest"]]}));
    let for_docker = json!([{"Config": config_name, "RepoTags": [NAME], "Layers": [layer_name]}]);
    assert_eq!(parsed(&files, "manifest.json"), for_docker);
    assert_eq!(files.len(), 6, "{:?}", files.keys());
}

#[test]
fn the_process_is_as_asked() {
    let files = Sample::new(&["a"]).outer();
    let manifest = parsed(&files, &blob_of(&files, &parsed(&files, "index.json")["manifests"][0]));
    let config = parsed(&files, &blob_of(&files, &manifest["config"]));
    let process = json!({
        "User": "65532:65532", "Entrypoint": ["/bin/dummy", "run"], "Cmd": ["--fast"], "Env": ["A=b=c"], "WorkingDir": "/", "Labels": {"org.example": "x=y"},
    });
    assert_eq!(config["config"], process);
    assert_eq!((&config["os"], &config["created"]), (&json!("linux"), &json!("1970-01-01T00:00:00Z")));
}

#[test]
fn files_are_roots_and_only_the_named_one_has_the_capability() {
    let files = Sample::new(&["a", "b"]).outer();
    let manifest = parsed(&files, &blob_of(&files, &parsed(&files, "index.json")["manifests"][0]));
    let mut layer = Archive::new(Cursor::new(&files[&blob_of(&files, &manifest["layers"][0])]));
    let mut seen = Vec::new();
    for entry in layer.entries().unwrap() {
        let mut entry = entry.unwrap();
        let capability = entry.pax_extensions().unwrap().into_iter().flatten().map(|pair| {
            let pair = pair.unwrap();
            assert_eq!(pair.key(), Ok("SCHILY.xattr.security.capability"));
            pair.value_bytes().to_vec()
        });
        let capability: Vec<_> = capability.collect();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
        let (kind, mode) = (header.entry_type(), header.mode().unwrap());
        seen.push((entry.path().unwrap().to_str().unwrap().to_owned(), kind, mode, capability));
    }
    let (file, directory) = (EntryType::Regular, EntryType::Directory);
    let plain = |path: &str, kind, mode| (path.to_owned(), kind, mode, vec![]);
    assert_eq!(
        seen,
        [
            plain("bin/", directory, 0o755),
            ("bin/dummy".to_owned(), file, 0o755, vec![NET_BIND_SERVICE.to_vec()]),
            plain("usr/", directory, 0o755),
            plain("usr/share/", directory, 0o755),
            plain("usr/share/a", file, 0o644),
            plain("usr/share/b", file, 0o644),
            plain("usr/share/link", EntryType::Symlink, 0o777),
        ]
    );
}

#[test]
fn a_wrong_order_is_refused_and_leaves_nothing_behind() {
    let sample = Sample::new(&["a"]);
    let binary = format!("{}=/dummy", sample.path("binary").display());
    for (label, arguments, complaint) in [
        ("a user by name", vec!["--user", "nobody", "--entrypoint", "/dummy", &binary], "nobody"),
        ("a file that isn't there", vec!["--entrypoint", "/dummy", "/nowhere/x=/dummy"], "/nowhere/x"),
        ("a capability for nothing", vec!["--entrypoint", "/dummy", "--net-bind", "/other", &binary], "/other"),
        ("a file without a place", vec!["--entrypoint", "/dummy", "/etc/hostname"], "/etc/hostname"),
    ] {
        let out = sample.path("refused.tar");
        let output = pack(&out, &arguments);
        assert!(!output.status.success(), "{label}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(complaint) && !said.contains("Traceback"), "{label}: {said}");
    }
    assert_eq!(fs::read_dir(sample.directory.path()).unwrap().count(), 3, "something was left behind");
}

/// Both ways to the image are to lead to the same one; nothing here has an engine to build the other with.
#[test]
fn the_dockerfile_describes_the_image_that_the_script_builds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/image");
    let (script, dockerfile) =
        (fs::read_to_string(directory.join("build")).unwrap(), fs::read_to_string(directory.join("Dockerfile")).unwrap());
    for (in_script, in_dockerfile) in [
        ("--entrypoint /nodegate ", "ENTRYPOINT [\"/nodegate\"]\n"),
        ("--cmd serve ", "CMD [\"serve\"]\n"),
        ("--net-bind /nodegate ", "setcap cap_net_bind_service=+ep /out/nodegate\n"),
        ("image/compile\" ", "RUN manifests/image/compile /out "),
    ] {
        assert!(script.contains(in_script), "`build` no longer says {in_script}");
        assert!(dockerfile.contains(in_dockerfile), "the Dockerfile lacks {in_dockerfile}");
    }
    assert!(
        fs::read_to_string(directory.join("pack")).unwrap().contains("default=\"65532:65532\"")
            && dockerfile.contains("USER 65532:65532\n")
    );
    let labels = |text: &str| -> Vec<String> {
        let found = text.split("org.opencontainers.image.").skip(1);
        found.map(|rest| rest.split('=').next().unwrap().to_owned()).collect()
    };
    assert_eq!(labels(&script), labels(&dockerfile));
}

/// A binary and a tree to pack: `binary`, and below `tree` the files asked for and a symbolic link.
struct Sample {
    directory: TempDir,
}

impl Sample {
    /// Creates the files in this order, which is the order in which many file systems list them.
    fn new(names: &[&str]) -> Self {
        let sample = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(sample.path("tree")).unwrap();
        for name in names {
            fs::write(sample.path("tree").join(name), name).unwrap();
        }
        symlink("/etc/nowhere", sample.path("tree/link")).unwrap();
        fs::write(sample.path("binary"), [0x7f; 3000]).unwrap();
        fs::set_permissions(sample.path("binary"), Permissions::from_mode(0o700)).unwrap();
        // As a library is named: the link is followed, other than one inside a directory.
        symlink("binary", sample.path("link to binary")).unwrap();
        sample
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Packs the files with one of everything.
    #[track_caller]
    fn image(&self) -> PathBuf {
        let out = self.path("image.tar");
        let (binary, tree) =
            (format!("{}=/bin/dummy", self.path("link to binary").display()), format!("{}=/usr/share", self.path("tree").display()));
        let what = ["--entrypoint", "/bin/dummy", "--entrypoint", "run", "--cmd=--fast", "--env", "A=b=c", "--label", "org.example=x=y"];
        let output = pack(&out, &[&what[..], &["--net-bind", "/bin/dummy", &binary, &tree]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        out
    }

    /// The files of the outer tar.
    #[track_caller]
    fn outer(&self) -> BTreeMap<String, Vec<u8>> {
        let mut archive = Archive::new(File::open(self.image()).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().to_str().unwrap().to_owned(), content)
        });
        entries.collect()
    }
}

fn pack(out: &Path, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/image/pack");
    let mut command = Command::new(script);
    command.arg(out).args(["--name", NAME]).args(arguments).env_remove("SOURCE_DATE_EPOCH");
    command.output().unwrap_or_else(|error| panic!("pack needs python3 on PATH: {error}"))
}

#[track_caller]
fn parsed(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    serde_json::from_slice(&files[name]).unwrap()
}

/// Where the blob lies that a descriptor names, once its digest and size have been found right.
#[track_caller]
fn blob_of(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let name = format!("blobs/sha256/{digest}");
    assert_eq!(sha256(&files[&name]), digest);
    assert_eq!(descriptor["size"], files[&name].len());
    name
}

fn sha256(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    said.split(' ').next().unwrap().to_owned()
}
