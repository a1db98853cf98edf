//! The protocol's tests, in one binary: golden bytes, a second encoder, properties, hostile input, the client.

mod client;
mod differential;
mod hostile;
mod properties;
mod samples;
mod sizes;
mod strategy;
mod vectors;
