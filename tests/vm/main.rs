//! The boot stage in virtual machines: Debian's own kernels, an initramfs with the real binary, QEMU without
//! acceleration. A scenario is a script that runs as init; it prints one line per check, which this program reads.
//! Those that take minutes run with `make test-vm` alone.

mod archive;
#[path = "../common/mod.rs"]
mod common;
mod debian;
mod guest;
mod image;
mod kernel;
mod machine;
mod packages;
mod scenario;
mod verdict;

use kernel::Line;
use scenario::Scenario;

#[test]
fn a_pool_of_200_slots_is_made_leased_and_taken_down() {
    Scenario::new("pool", Line::V6_12).run();
}

#[test]
fn the_programs_pass_their_tests_on_6_12() {
    Scenario::new("suite", Line::V6_12).with_test("programs").run();
}

#[test]
fn bound_slots_reach_the_kernels_own_geneve_in_both_modes() {
    Scenario::new("suite", Line::V6_12).with_test("geneve").run();
}

#[test]
#[ignore = "a second kernel: make test-vm"]
fn a_pool_without_tunnels_is_made_on_6_1() {
    Scenario::new("pool", Line::V6_1).append("tunnel=off").run();
}

#[test]
fn a_pool_outlives_the_change_of_root_as_initramfs_tools_does_it() {
    Scenario::new("switch", Line::V6_12).with_command("ping").append("how=move").run();
}

#[test]
fn a_pool_outlives_the_change_of_root_as_systemd_does_it() {
    Scenario::new("switch", Line::V6_12).with_command("ping").append("how=bind").run();
}

#[test]
fn what_an_early_boot_lacks_is_named_and_stops_nothing_else() {
    let share = "usr/share/netslot/initramfs";
    let lacking = Scenario::new("lacking", Line::V6_12).with_command("bpftool");
    let lacking = lacking.with_file("initramfs/up", &format!("{share}/up"));
    lacking.with_file("initramfs/modules", &format!("{share}/modules")).run();
}

#[test]
#[ignore = "minutes: make test-vm"]
fn a_daemon_short_of_memory_serves_or_is_killed_and_no_lease_is_lost() {
    Scenario::new("memory", Line::V6_12).run();
}

#[test]
#[ignore = "a second kernel: make test-vm"]
fn the_programs_pass_their_tests_on_6_1() {
    // Taking a tunnel's headers off takes BPF_F_ADJ_ROOM_DECAP_L3_IPV4 and _IPV6, which 6.3 brought; netslot check says so.
    let skip = "skip=a_bound_slots_packets_travel,an_ipv6_underlay_carries";
    Scenario::new("suite", Line::V6_1).with_test("programs").append(skip).run();
}

#[test]
#[ignore = "minutes: make test-vm"]
fn the_pool_passes_its_tests_on_6_12() {
    Scenario::new("suite", Line::V6_12).with_test("pool").run();
}

#[test]
#[ignore = "minutes: make test-vm"]
fn the_daemon_passes_its_tests_on_6_12() {
    // It kills within 25 ms of load, in which a machine in software answers next to nothing.
    let skip = "skip=leases_survive_kills_under_load";
    Scenario::new("suite", Line::V6_12).with_test("daemon").append(skip).run();
}

#[test]
#[ignore = "minutes: make test-vm"]
fn what_is_left_in_a_slot_is_gone_on_6_12_too() {
    // Neighbours are looked at there, and made anew from 6.13 on.
    let suite = Scenario::new("suite", Line::V6_12).with_test("scrub");
    suite.with_command("conntrack").with_command("sysctl").with_command("iptables-legacy").run();
}
