//! Requests that are wrong, on a real kernel and real LVM: refused in words that help, the machine left as it was.

#[test]
fn wrong_requests_are_refused_and_leave_the_machine_as_it_was() {
    let themes = ["arguments", "sizes", "names", "classes", "ids", "paths", "targets"];
    quarry_trial::checks::test("requests", &themes).unwrap();
}
