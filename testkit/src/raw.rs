//! Raw Ethernet frames in and out of a device, for what no well-behaved program sends.

use anyhow::Result;

use crate::lab::Place;
use crate::process::Process;
use crate::wait::wait_until;

use std::time::Duration;

/// Puts frames on a packet socket; a few lines that every Debian with Python can run.
const SCRIPT: &str = include_str!("raw.py");

/// Sends frames, in order, by `device` of a container.
pub fn send(place: &Place<'_>, device: &str, frames: &[Vec<u8>]) -> Result<()> {
    let input: String = frames.iter().map(|frame| hex(frame) + "\n").collect();
    let command = ["python3", "-c", SCRIPT, "send", device];
    place.spawn_with_input(&command, Some(&input))?.wait()?.ok().map(drop)
}

/// Frames that arrive at a device, from the moment of [`Capture::start`] on.
#[derive(Debug)]
pub struct Capture {
    process: Process,
}

impl Capture {
    /// Starts to listen at `device` of a container; returns when it does.
    pub fn start(place: &Place<'_>, device: &str) -> Result<Capture> {
        let mut process = place.spawn_with_input(&["python3", "-c", SCRIPT, "capture", device], None)?;
        process.wait_for("ready\n")?;
        Ok(Capture { process })
    }

    /// The frames until now.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let text = self.process.stdout();
        let complete = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        complete.lines().skip(1).filter_map(bytes).collect()
    }

    /// Waits for a frame of which `wanted` holds and gives it.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
        let mut found = None;
        wait_until(Duration::from_secs(10), what, || {
            found = self.frames().into_iter().find(|frame| wanted(frame));
            found.is_some()
        })?;
        Ok(found.unwrap_or_default())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::one_bridge;

    #[test]
    fn hexadecimal_there_and_back_is_the_identity() {
        assert_eq!(bytes(&hex(&[0, 0x7f, 0xff])), Some(vec![0, 0x7f, 0xff]));
        assert_eq!(bytes("0g"), None);
    }

    #[test]
    fn a_frame_that_is_sent_is_captured_at_the_other_end() {
        let lab = one_bridge().unwrap();
        let capture = Capture::start(&lab.container("b"), "eth0").unwrap();
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 0x0a, 0x88, 0xb5]);
        frame.extend([0xa5; 46]);
        send(&lab.container("a"), "eth0", std::slice::from_ref(&frame)).unwrap();
        assert_eq!(capture.wait_for("the frame", |f| f == frame).unwrap(), frame);
    }
}
