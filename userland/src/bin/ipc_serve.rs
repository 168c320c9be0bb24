//! Answers every call with the message it came with, for `ipc-call`.
#![no_std]
#![no_main]

use libipc::sys;

rt::entry!(main);

fn main(start: &'static rt::StartInfo) -> u64 {
    let (Some(own), Some(reply)) = (start.cap("self"), start.cap("reply")) else { return 1 };
    let mut got = sys::recv(own, reply);
    while let Ok(r) = got {
        sys::mark::<2>();
        got = sys::reply_recv(own, reply, r.info, r.words);
    }
    1
}
