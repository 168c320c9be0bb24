//! A tool that is ended by a signal takes its children along.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use image::child::Guarded;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Set in the process that plays the tool.
const TOOL: &str = "BREAKWATER_SIGNAL_TEST";

/// The tool: starts a child that would run for ever, says its number, and waits for it.
fn tool() {
    let mut command = Command::new("sleep");
    let mut child =
        Guarded::spawn(command.arg("60").stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
    println!("\nchild {}", child.id());
    let _ = child.wait();
    std::thread::sleep(Duration::from_secs(1000));
}

#[test]
fn children_end_with_the_tool() {
    if std::env::var_os(TOOL).is_some() {
        return tool();
    }
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let mut tool = Command::new(std::env::current_exe().unwrap())
            .args(["children_end_with_the_tool", "--nocapture"])
            .env(TOOL, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(tool.stdout.take().unwrap()).lines();
        let said = lines.map_while(Result::ok).find(|l| l.starts_with("child ")).unwrap();
        let child = Pid::from_raw(said["child ".len()..].parse().unwrap());
        kill(child, None).expect("it runs");
        kill(Pid::from_raw(tool.id() as i32), signal).unwrap();
        assert_eq!(tool.wait().unwrap().signal(), Some(signal as i32));
        let deadline = Instant::now() + Duration::from_secs(10);
        while alive(child) {
            assert!(Instant::now() < deadline, "{signal}: the child runs on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether a process runs; one that has ended and that nobody has waited for does not.
fn alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}
