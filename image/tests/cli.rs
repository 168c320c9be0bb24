//! The command line of the tool: what it refuses says what to do.

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
    for word in
        ["run", "build", "test", "--net", "--accel", "--mem", "--pcap", "--gdb", "--headless"]
    {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    assert!(text.contains("[default: 128]"), "{text}");
}

#[test]
fn wrong_values_name_the_right_ones() {
    let text = refused(&["run", "--net", "tap"]);
    assert!(text.contains("tap") && text.contains("possible values: user, none"), "{text}");
    let text = refused(&["--accel", "xen"]);
    assert!(text.contains("auto, tcg, kvm"), "{text}");
    let text = refused(&["run", "--mem", "8"]);
    assert!(text.contains("8 is not in 32..=65536"), "{text}");
    let text = refused(&["run", "--mem", "lots"]);
    assert!(text.contains("lots"), "{text}");
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
