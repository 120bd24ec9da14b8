//! Carry Ethernet frames between two packet sockets, late, damaged or not at all, as a line does.
//!
//! ```text
//! carrier CONTROL NEAR FAR SEED
//! ```
//!
//! The first three are descriptors that the parent passes on: a SOCK_SEQPACKET socket for orders, and
//! the two packet sockets. What happens to a frame is drawn from the seed. It ends with the control
//! socket, so it cannot outlive who started it.
//!
//! An order is one message, and its answer is one:
//!
//! ```text
//! line WAY NAME=NUMBER...     what befalls frames that come in at end WAY (0 near, 1 far)
//!                             from now on; names left out are 0; the answer is `ok`
//! counts WAY                  the answer is NAME=NUMBER...
//! ```

mod flight;
mod frame;
mod line;
mod orders;
mod run;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match orders::parse_command(&words).and_then(|command| run::run(&command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("carrier: {reason}");
            ExitCode::FAILURE
        }
    }
}
