//! Whole stories: the service against the simulated portal, in paused time, each a promise of the program.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that can't go on has failed"
)]

mod agreement;
mod answers;
mod caps;
mod changes;
mod chaos;
mod crashes;
mod events;
mod faults;
mod forecast;
mod keeping;
mod limits;
#[path = "../../examples/simulate/sim/listener.rs"]
mod listener;
mod notices;
mod selecting;
mod stops;
mod unchecked;
mod undo;
mod wires;
mod world;
