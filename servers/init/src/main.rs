//! Placeholder.
#![no_std]
#![no_main]
rt::entry!(main);
fn main(_start: &'static rt::StartInfo) -> u64 {
    rt::log!("hello");
    0
}
