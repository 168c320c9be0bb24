//! A program that dies in the middle of everything, for the test that counts what it leaves: see
//! [`STAGES`]. Each start picks a stage and a way to die by its random seed; after as many starts
//! as its argument says it exits for good.
#![no_std]
#![no_main]
rt::entry!(main);
const STAGES: u32 = 0;
fn main(_start: &'static rt::StartInfo) -> u64 {
    STAGES as u64
}
