//! What a call costs: calls the server `ipc-serve` and counts. Under `-icount shift=0` one tick of
//! the time-stamp counter is one instruction, so the figures are exact and the same every time.
#![no_std]
#![no_main]

use abi::MsgInfo;
use libipc::sys;

rt::entry!(main);

/// Calls counted together.
const CALLS: u64 = 1000;
/// An interface of its own.
const INTERFACE: u16 = 0x7f;

fn main(start: &'static rt::StartInfo) -> u64 {
    let Some(server) = start.cap("serve") else { return 1 };
    for len in [0, 64, 512] {
        let info = MsgInfo::new(INTERFACE, 1, 0, len);
        let mut begun = 0;
        for i in 0..CALLS + 10 {
            // The first ones fill caches and page tables.
            if i == 10 {
                begun = sys::rdtsc();
            }
            sys::mark::<1>();
            if sys::call(server, info, [i, 0, 0, 0]).is_err() {
                return 1;
            }
        }
        let each = (sys::rdtsc() - begun) / CALLS;
        rt::log!("call and reply, {len} bytes: {each} instructions");
    }
    0
}
