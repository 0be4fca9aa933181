//! The harness of the end-to-end tests: everything that runs beside the code under test, as real processes on loopback.
//!
//! The tests themselves are in `tests/e2e/`. They start the sidecar and the emulator as the binaries that users run, and
//! strangers as their peers: `RabbitMQ` as an AMQP server, four libraries as clients. What a test needs and the machine
//! lacks is fetched into a cache directory (see [`tools`], also for what has to be installed); if that fails the test fails,
//! and says what is missing. No test is ever skipped.
//!
//! Every process and every directory belongs to a value that ends it when dropped. All ports are on loopback.

pub mod admin;
pub mod application;
pub mod binaries;
pub mod certificates;
pub mod cluster;
pub mod crowd;
pub mod emulator;
pub mod garbage_peer;
pub mod helm;
pub mod janitor;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod python;
pub mod rabbitmq;
pub mod raw_client;
pub mod receiver;
pub mod sidecar;
pub mod stage;
pub mod tools;
pub mod verifier;
pub mod wait;
