//! Tests that cross several parts of Weft, one file a theme in `tests/`. They run the built daemon and command
//! line in a `Lab` of weft-testkit, against real programs. Nothing lives in this library.
