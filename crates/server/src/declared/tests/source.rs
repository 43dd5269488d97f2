//! Revisions: what belongs to one, and the address of its content.

use std::path::Path;

use super::{Folder, GOOD};
use crate::declared::{Source, SourceFile};

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile {
        name: name.into(),
        text: text.into(),
    }
}

#[test]
fn a_folder_is_read_in_order_of_names() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    for name in [
        "b.toml",
        "a.toml",
        ".#a.toml",
        "notes.md",
        "policies/p.cedar",
        "policies/p.md",
        "q.cedar",
    ] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let source = Source::read_folder(folder.path()).unwrap();
    assert_eq!(
        source.files(),
        [
            file("a.toml", "a.toml"),
            file("b.toml", "b.toml"),
            file("policies/p.cedar", "policies/p.cedar")
        ]
    );
    assert_eq!(source.base(), folder.path());
}

/// A pipe would be waited for, a device may have no end, and a folder of that name would be passed
/// over although somebody meant it to be read.
#[test]
fn what_is_no_regular_file_is_refused_by_its_name() {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    type Make = fn(&Path);
    let makes: [(&str, Make); 4] = [
        ("device.toml", |path| symlink("/dev/null", path).unwrap()),
        ("folder.toml", |path| std::fs::create_dir(path).unwrap()),
        ("socket.toml", |path| {
            drop(UnixListener::bind(path).unwrap())
        }),
        ("pipe.toml", |path| {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
    ];
    for (name, make) in makes {
        let folder = Folder::new();
        make(&folder.path().join(name));
        std::fs::create_dir(folder.path().join("policies")).unwrap();
        make(&folder.path().join("policies/x.cedar"));
        let (sent, read) = std::sync::mpsc::channel();
        let path = folder.path().to_owned();
        // Whoever waits for a pipe waits for ever.
        std::thread::spawn(move || sent.send(Source::read_folder(&path)));
        let within = std::time::Duration::from_secs(20);
        let refused = read.recv_timeout(within).unwrap().unwrap_err().to_string();
        assert!(
            refused.ends_with(&format!("{name}: is no regular file")),
            "{refused}"
        );
        std::fs::rename(folder.path().join(name), folder.path().join("aside")).unwrap();
        let refused = Source::read_folder(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("policies/x.cedar: is "), "{refused}");
    }
    // What is linked to is what counts.
    let folder = Folder::new();
    std::fs::write(folder.path().join("aside"), "text").unwrap();
    symlink("aside", folder.path().join("a.toml")).unwrap();
    let source = Source::read_folder(folder.path()).unwrap();
    assert_eq!(source.files(), [file("a.toml", "text")]);
}

#[test]
fn a_folder_that_is_missing_or_no_text_is_an_error() {
    let folder = Folder::new();
    let missing = folder.path().join("missing");
    assert!(
        Source::read_folder(&missing)
            .unwrap_err()
            .to_string()
            .contains("missing: cannot be read")
    );
    std::fs::write(folder.path().join("a.toml"), b"\xff").unwrap();
    assert!(
        Source::read_folder(folder.path())
            .unwrap_err()
            .to_string()
            .contains("a.toml: cannot be read")
    );
}

/// The only references that can lead back to themselves: a tenant's files name no other file that
/// names files.
#[test]
fn links_that_lead_in_a_circle_are_an_error_that_names_them() {
    for (name, folder_of_it) in [("a.toml", ""), ("a.cedar", "policies")] {
        let folder = Folder::new();
        let within = folder.path().join(folder_of_it);
        std::fs::create_dir_all(&within).unwrap();
        std::os::unix::fs::symlink("b", within.join(name)).unwrap();
        std::os::unix::fs::symlink(name, within.join("b")).unwrap();
        let why = Source::read_folder(folder.path()).unwrap_err().to_string();
        assert!(why.contains(&format!("{name}: cannot be read: ")), "{why}");
    }
    // A folder of policies that holds itself is not gone down into.
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    let policies = folder.path().join("policies");
    std::os::unix::fs::symlink(".", policies.join("again")).unwrap();
    let why = Source::read_folder(folder.path()).unwrap_err().to_string();
    assert!(why.contains("again: is a folder"), "{why}");
}

#[test]
fn the_hash_names_the_content_alone() {
    let base = Path::new("/a");
    let source = Source::new(base, vec![file("a.toml", GOOD), file("b.toml", "")]);
    let other = Source::new(
        Path::new("/b"),
        vec![file("b.toml", ""), file("a.toml", GOOD)],
    );
    assert_eq!(source.hash(), other.hash());
    let fixed = Source::new(base, vec![file("a.toml", "x = 1\n")]);
    assert_eq!(
        fixed.hash().to_string(),
        "MHszu5nL7cDoK8Zkzpyg2jmPU4C-O2yg-GsAf2S2rSA"
    );
    for changed in [
        vec![file("a.toml", GOOD)],
        vec![file("a.toml", GOOD), file("c.toml", "")],
        vec![file("a.toml", ""), file("b.toml", GOOD)],
        vec![file("a.tomlb", ".toml")],
    ] {
        assert_ne!(Source::new(base, changed).hash(), source.hash());
    }
}

#[test]
fn stored_bytes_are_read_back() {
    let source = Source::new(Path::new("/a"), vec![file("a.toml", "text = \"ä\"")]);
    let back = Source::from_bytes(&source.to_bytes(), Path::new("/b")).unwrap();
    assert_eq!(back.files(), source.files());
    assert_eq!(back.base(), Path::new("/b"));
    assert_eq!(back.hash(), source.hash());
    assert_eq!(
        String::from_utf8(source.to_bytes()).unwrap(),
        r#"{"v":1,"files":[{"name":"a.toml","text":"text = \"ä\""}]}"#
    );
    assert_eq!(
        Source::from_bytes(br#"{"v":2,"files":[]}"#, Path::new(""))
            .unwrap_err()
            .to_string(),
        "the stored declared state has version 2, this build reads 1"
    );
    assert!(Source::from_bytes(b"", Path::new("")).is_err());
}
