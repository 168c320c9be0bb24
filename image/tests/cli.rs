//! The command line of the tool: what it refuses says what to do.

use std::path::PathBuf;
use std::process::{Command, Output};

fn tool(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_image")).args(args).output().expect("the tool starts")
}

/// Exit status and everything said on stderr.
fn refused(args: &[&str]) -> String {
    let out = tool(args);
    assert!(!out.status.success(), "{args:?} was accepted");
    assert!(out.stdout.is_empty(), "{args:?}: errors belong on stderr");
    String::from_utf8(out.stderr).unwrap()
}

#[test]
fn help_shows_every_subcommand_and_the_defaults() {
    let out = tool(&["--help"]);
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    for word in [
        "run",
        "build",
        "test",
        "--net",
        "--ip",
        "--gateway",
        "--dns",
        "--machine",
        "--nic",
        "--boot",
        "image",
        "--accel",
        "--mem",
        "--pcap",
        "--gdb",
        "--headless",
    ] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    assert!(text.contains("[default: 128]"), "{text}");
}

#[test]
fn wrong_values_name_the_right_ones() {
    let text = refused(&["run", "--net", "tap"]);
    assert!(text.contains("write user, none, or tap:IF"), "{text}");
    let text = refused(&["run", "--net", "tap:a/b"]);
    assert!(text.contains("`a/b` is no interface's name"), "{text}");
    let text = refused(&["run", "--nic", "rtl8139"]);
    assert!(text.contains("82540em, 82544gc, 82545em, 82574l"), "{text}");
    let text = refused(&["run", "--machine", "virt"]);
    assert!(text.contains("pc, q35"), "{text}");
    let text = refused(&["--accel", "xen"]);
    assert!(text.contains("auto, tcg, kvm"), "{text}");
    let text = refused(&["run", "--mem", "8"]);
    assert!(text.contains("8 is not in 64..=65536"), "{text}");
    let text = refused(&["run", "--mem", "lots"]);
    assert!(text.contains("lots"), "{text}");
}

#[test]
fn an_image_is_refused_before_anything_is_built() {
    let text = refused(&["image"]);
    assert!(text.contains("<OUT>"), "{text}");
    let text = refused(&["image", "x.vmdk"]);
    assert!(text.contains("called .iso or .img"), "{text}");
    let text = refused(&["image", "/no/such/folder/x.iso"]);
    assert!(text.contains("there is no folder /no/such/folder: make it first"), "{text}");
    let text = refused(&["image", "x.iso", "--append", "it's"]);
    assert!(text.contains("without quotes"), "{text}");
    let text = refused(&["image", "x.iso", "--ip", "10.9.0.2"]);
    assert!(text.contains("as in 10.9.0.2/24"), "{text}");
}

#[test]
fn an_address_is_checked_before_anything_is_built() {
    let text = refused(&["run", "--ip", "10.9.0.2"]);
    assert!(text.contains("as in 10.9.0.2/24"), "{text}");
    let text = refused(&["run", "--ip", "10.9.0.255/24"]);
    assert!(text.contains("as in 10.9.0.2/24"), "{text}");
    let text = refused(&["run", "--gateway", "10.9.0.1"]);
    assert!(text.contains("--ip <ADDRESS/LENGTH>"), "{text}");
    let text = refused(&["--dns", "10.9.0.1"]);
    assert!(text.contains("--ip <ADDRESS/LENGTH>"), "{text}");
    let text = refused(&["run", "--ip", "10.9.0.2/24", "--gateway", "10.8.0.1"]);
    assert!(text.contains("--gateway must be another host in the network"), "{text}");
    let text = refused(&["run", "--ip", "10.9.0.2/24", "--dns", "0.0.0.0"]);
    assert!(text.contains("no host's address"), "{text}");
    let text = refused(&["run", "--ip", "10.9.0.2/30"]);
    assert!(text.contains("prefix length of 29 or less"), "{text}");
}

#[test]
fn a_missing_tap_says_how_to_make_it() {
    let text = refused(&["run", "--net", "tap:no-such-if"]);
    assert!(text.contains("ip tuntap add no-such-if mode tap"), "{text}");
    let text = refused(&["run", "--net", "tap:lo"]);
    assert!(text.contains("`lo` is no tap interface"), "{text}");
}

#[test]
fn an_address_needs_a_stack() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/bench.toml");
    let text = refused(&["run", "--manifest", path, "--ip", "10.9.0.2/24"]);
    assert!(text.contains("names no stack in [sessions]"), "{text}");
}

#[test]
fn unknown_words_are_refused_with_a_suggestion() {
    let text = refused(&["biuld"]);
    assert!(text.contains("biuld") && text.contains("build"), "{text}");
    let text = refused(&["run", "--headles"]);
    assert!(text.contains("--headless"), "{text}");
}

#[test]
fn an_unknown_test_points_at_the_list() {
    let text = refused(&["test", "no-such-test"]);
    assert!(text.contains("`no-such-test`") && text.contains("--list"), "{text}");
}

#[test]
fn measurements_are_listed_and_unknown_ones_point_at_the_list() {
    let out = tool(&["bench"]);
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    for name in ["net", "memory", "profile"] {
        let line = text.lines().find(|l| l.split_whitespace().next() == Some(name));
        assert!(line.is_some_and(|l| l.len() > name.len() + 10), "{name}:\n{text}");
    }
    let text = refused(&["bench", "no-such-thing"]);
    assert!(text.contains("`no-such-thing`") && text.contains("lists them"), "{text}");
    let text = refused(&["bench", "net", "--only", "ping,nothing"]);
    assert!(text.contains("`nothing`") && text.contains("boot") && text.contains("udp"), "{text}");
}

#[test]
fn the_list_has_every_test_with_a_line_on_what_it_shows() {
    let out = tool(&["test", "--list"]);
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    for name in ["boot", "kernel-panic", "ping", "download", "download-crash", "client-death"] {
        let line = text.lines().find(|l| l.split_whitespace().next() == Some(name));
        assert!(line.is_some_and(|l| l.len() > name.len() + 10), "{name}:\n{text}");
    }
}

#[test]
fn a_missing_or_wrong_manifest_is_named() {
    let text = refused(&["build", "--manifest", "/no/such/file.toml"]);
    assert!(text.contains("/no/such/file.toml"), "{text}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests/priority-zero.toml");
    let text = refused(&["build", "--manifest", path]);
    assert!(text.contains("priority-zero.toml:4: priority is 0"), "{text}");
}

#[test]
fn the_manifest_may_be_named_anywhere() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests/priority-zero.toml");
    for args in [["--manifest", path, "build"], ["build", "--manifest", path]] {
        let text = refused(&args);
        assert!(text.contains("priority-zero.toml:4: priority is 0"), "{text}");
    }
}

#[test]
fn options_of_run_are_not_lost_before_another_subcommand() {
    let text = refused(&["--mem", "256", "build"]);
    assert!(text.contains("`--mem` belongs behind the subcommand"), "{text}");
    let text = refused(&["--gdb", "test", "--list"]);
    assert!(text.contains("`--gdb` belongs behind the subcommand"), "{text}");
}

/// A folder that is the whole PATH, with these scripts in it.
fn path_with(name: &str, scripts: &[(&str, &str)]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    for (program, body) in scripts {
        let file = dir.join(program);
        std::fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

fn without_qemu(dir: &PathBuf) -> String {
    let tool = env!("CARGO_BIN_EXE_image");
    let out = Command::new(tool).arg("run").env("PATH", dir).output().expect("the tool starts");
    assert!(!out.status.success());
    String::from_utf8(out.stderr).unwrap()
}

#[test]
fn without_apt_it_says_what_to_install() {
    let text = without_qemu(&path_with("no-apt", &[]));
    assert!(text.contains("no apt-get") && text.contains("please install QEMU"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

/// For users who are not root.
const SUDO: (&str, &str) = ("sudo", "shift; exec /usr/bin/env \"$@\"");

#[test]
fn qemu_is_installed_by_apt_without_questions() {
    // Knows the package only after an update, as in a fresh container; installs an old QEMU.
    let apt = r#"d="${0%/*}"
        echo "$DEBIAN_FRONTEND $*" >> "$d/asked"
        case "$*" in
        --version) exit 0 ;;
        *update*) : > "$d/updated" ;;
        *install*)
            [ -e "$d/updated" ] || exit 100
            printf '#!/bin/sh\necho QEMU emulator version 6.2.0\n' > "$d/qemu-system-x86_64"
            /bin/chmod +x "$d/qemu-system-x86_64" ;;
        esac"#;
    let dir = path_with("apt", &[("apt-get", apt), SUDO, ("true", "")]);
    let text = without_qemu(&dir);
    assert!(text.contains("installing it with apt-get"), "{text}");
    assert!(text.contains("6.2.0") && text.contains("7.2 or later"), "{text}");
    let asked = std::fs::read_to_string(dir.join("asked")).unwrap();
    let installs: Vec<&str> = asked.lines().filter(|l| l.contains("install")).collect();
    assert_eq!(installs.len(), 2, "{asked}");
    for line in installs {
        assert!(line.starts_with("noninteractive "), "{line}");
        assert!(line.contains("install -y --no-install-recommends qemu-system-x86"), "{line}");
    }
}

#[test]
fn when_apt_fails_it_says_what_to_install() {
    let apt = r#"case "$*" in --version) exit 0 ;; esac; echo E: no network >&2; exit 100"#;
    let dir = path_with("apt-fails", &[("apt-get", apt), SUDO, ("true", "")]);
    let text = without_qemu(&dir);
    assert!(text.contains("E: no network") && text.contains("please install QEMU"), "{text}");
}
