//! The pool's state as a test of the programs changes and reads it: past the ledger, straight in the maps.

use netslot::bpf::{Counters, Datapath, MapStore};

/// Records and bindings, and what the programs count.
pub fn state(datapath: &Datapath) -> (MapStore, Counters) {
    let maps = datapath.maps();
    let store = maps.store(maps.cells().expect("mapped").into()).expect("the tenants' map");
    (store, maps.counters().expect("counters"))
}
