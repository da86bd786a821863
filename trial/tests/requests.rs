//! Bad requests, each on a real kernel and real LVM: refused in words that help, the machine left as it was.

#[test]
fn requests_are_done_or_refused_and_leave_nothing() {
    quarry_trial::checks::test("requests", &["arguments", "sizes"]).unwrap();
}
