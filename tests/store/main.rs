//! The store's promises, through its public surface.
//!
//! `file`: whose file it is, settings, lock. `writing`: what an answer means. `inbox`: events and gaps. `work`: the life
//! of a job. `caps`: the daily cap. `evaluations`: runs, holds, rules. `state`: protections, control, requests, pruning.
//! `batches`: many jobs settled at once.
//! `any_order`: invariants under any sequence of operations. `upgrade`: databases of earlier versions.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say where")]

mod any_order;
mod batches;
mod caps;
mod dying;
mod evaluations;
mod file;
mod inbox;
mod notices;
mod state;
mod support;
mod upgrade;
mod work;
mod writing;
