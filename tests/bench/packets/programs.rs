//! Each program on one packet at a time, run and timed by the kernel. A run is one packet: the programs change it, so that a
//! second run on the result would be another's. What the timing itself takes is told by a packet that is none of ours.

use aya::programs::{TestRun as _, TestRunOptions};
use netslot::bpf::Program;
use netslot_abi::{BindingRecord, bind_mode};
use serde_json::json;

use crate::frames::{self, Carried};
use crate::test_run::{self, Bench, GUEST, UPLINK, slot4};
use crate::{percentile, println_json, sorted};

const FAR: [u8; 4] = [192, 0, 2, 77];
const TENANT: [u8; 4] = [10, 1, 2, 3];
const VNI: u32 = 77;

pub fn measure(runs: usize) {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    bench.lease(0, 1);
    bench.lease(1, 1);
    let mut binding = BindingRecord {
        generation: 1,
        vni: VNI,
        tenant_v4: TENANT,
        mode: bind_mode::TUNNEL,
        remote_family: 4,
        ..BindingRecord::default()
    };
    // A neighbour that the bench's world knows.
    binding.remote[..4].copy_from_slice(&[198, 51, 100, 1]);
    bench.bind(1, &binding);
    let remote = [198, 51, 100, 1];
    let payload = &[0; 64][..];
    let udp = frames::v4(GUEST, FAR, Carried::Udp, payload);
    let answer = |to| frames::v4(FAR, to, Carried::Udp, payload);
    let lldp = [&[2; 12][..], &[0x88, 0xcc], &[0; 60]].concat();
    for (program, on, what, frame) in [
        (Program::UplinkIn, UPLINK, "not ours", &lldp),
        (Program::GuestIn, 0, "UDP", &udp),
        (Program::SlotOut, 0, "UDP, NAT", &udp),
        (Program::SlotIn, 0, "UDP, NAT", &answer(slot4(0))),
        (Program::SlotOut, 1, "UDP, into the tunnel", &udp),
        (Program::UplinkIn, UPLINK, "UDP, out of the tunnel", &test_run::geneve(remote, VNI, 0, &answer(TENANT))),
        (Program::UplinkIn, UPLINK, "UDP, another's", &answer([198, 51, 100, 9])),
        (Program::UplinkOut, UPLINK, "UDP, another's", &answer([198, 51, 100, 9])),
    ] {
        let ns = sorted((0..runs).map(|_| run(&mut bench, program, on, frame)).collect());
        println_json(&json!({
            "what": "program", "program": program.name(), "packet": what,
            "p50_ns": percentile(&ns, 50), "p99_ns": percentile(&ns, 99)
        }));
    }
}

fn run(bench: &mut Bench, program: Program, on: u32, frame: &[u8]) -> f64 {
    let context = test_run::context(on);
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.ctx_in = Some(&context);
    let ran = bench.datapath.classifier(program).expect("loaded").test_run(options).expect("ran");
    f64::from(ran.duration.subsec_nanos())
}
