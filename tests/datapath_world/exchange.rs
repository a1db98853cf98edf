//! What a guest says to a server in the network and gets back: bulk TCP, a small datagram, and one that needs fragments.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use netslot::sys::netns::within;

use super::World;

const BULK: usize = 8 << 20;
const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

/// A server in the network: sends back what it gets, TCP and UDP, on one port of an address.
pub fn serve(world: &World, address: &str, clients: usize, done: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let network = world.network.try_clone().expect("a descriptor");
    let address = address.to_owned();
    let (ready, listening) = std::sync::mpsc::channel();
    let server = thread::spawn(move || {
        within(network, move || {
            let tcp = TcpListener::bind(&address).expect("bound");
            let udp = UdpSocket::bind(&address).expect("bound");
            udp.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
            ready.send(()).expect("heard");
            thread::scope(|scope| {
                for _ in 0..clients {
                    let mut stream = tcp.accept().expect("a client").0;
                    scope.spawn(move || {
                        let mut bytes = vec![0; BULK];
                        stream.read_exact(&mut bytes).expect("all of it");
                        stream.write_all(&bytes).expect("and back");
                    });
                }
                let mut datagram = vec![0; 65_536];
                while !done.load(Ordering::Relaxed) {
                    if let Ok((len, from)) = udp.recv_from(&mut datagram) {
                        udp.send_to(&datagram[..len], from).expect("and back");
                    }
                }
            });
        })
        .expect("entered");
    });
    listening.recv().expect("a server");
    server
}

/// A guest's share: bulk TCP there and back, a small datagram, and one that needs fragments.
pub fn exchange(server: &str, seed: u8) {
    let mut stream = TcpStream::connect(server).expect("connected");
    stream.set_read_timeout(PATIENCE).expect("set");
    let sent: Vec<u8> = (0..=255).cycle().take(BULK).map(|byte: u8| byte ^ seed).collect();
    thread::scope(|scope| {
        let mut writer = stream.try_clone().expect("a descriptor");
        let sent = &sent;
        scope.spawn(move || writer.write_all(sent).expect("written"));
        let mut got = vec![0; BULK];
        stream.read_exact(&mut got).expect("everything comes back");
        assert!(got == *sent, "the bytes are this guest's own");
    });
    let local = if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let udp = UdpSocket::bind(local).expect("bound");
    udp.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
    udp.connect(server).expect("connected");
    for len in [20, 5_000] {
        let sent = vec![seed; len];
        let mut got = [0; 8_192];
        // The server's route holds more than the slot's: the first long IPv6 answer is lost to teach it that.
        let answer = (0..3).find_map(|_| {
            udp.send(&sent).expect("sent");
            // An answer to the first that came late, when it was asked for again, is not this one's.
            std::iter::repeat_with(|| udp.recv(&mut got).ok()).find(|got| got.is_none_or(|got| got == len)).flatten()
        });
        let answer = answer.unwrap_or_else(|| panic!("no answer to {len} bytes from {server}"));
        assert!(got[..answer] == sent);
    }
}
