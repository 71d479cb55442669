//! Two WireGuard devices and the network between them: each `[operation][arguments]`.

use std::time::Duration;

use crate::input::Input;
use crate::pair::Pair;

/// Operations of one run.
const MOST: usize = 120;

/// Does what the bytes say until they end; then the network is calm, and packets must come through.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut pair = Pair::new();
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        step(&mut pair, &mut input);
        pair.check();
    }
    pair.recover();
}

fn step(pair: &mut Pair, input: &mut Input) {
    let (operation, first) = (input.byte(), input.byte());
    let which = usize::from(first);
    match operation % 12 {
        0 => pair.send(which, 1 + input.byte() % 200, input.word()),
        1 => pair.send_as_somebody_else(which),
        2 => pair.deliver(which, None),
        3 => pair.deliver(which, Some(input.word())),
        4 => pair.double(which),
        5 => pair.lose(which),
        6 => pair.bend(which, input.word(), input.byte()),
        7 => pair.cut(which, input.word()),
        8 => pair.forge(which, input.take(usize::from(operation))),
        9 => pair.pass(Duration::from_millis(1 << (first % 18)), first & 0x80 != 0),
        10 => pair.configure(which, input.byte()),
        _ => pair.calm(),
    }
}
