use super::*;

/// As `huge_encode_dev` of the kernel packs it.
fn packed(major: u64, minor: u64) -> u64 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn answer_with(list: &[(u64, &str, Option<&str>)]) -> Vec<u8> {
    let mut answer = Request::default().packed(MAPPER_HEADER).unwrap();
    answer[4..8].copy_from_slice(&VERSION_WITH_UUIDS.to_ne_bytes());
    for (index, (device, name, uuid)) in list.iter().enumerate() {
        let mut entry = device.to_ne_bytes().to_vec();
        entry.extend([0; 4]);
        entry.extend(name.bytes());
        entry.resize((entry.len() + 1).next_multiple_of(8), 0);
        entry.extend([7, 0, 0, 0]);
        entry.extend(u32::from(uuid.is_some()).to_ne_bytes());
        if let Some(uuid) = uuid {
            entry.extend(uuid.bytes());
            entry.resize((entry.len() + 1).next_multiple_of(8), 0);
        }
        let next = if index + 1 == list.len() { 0 } else { u32::try_from(entry.len()).unwrap() };
        entry[8..12].copy_from_slice(&next.to_ne_bytes());
        answer.extend(entry);
    }
    answer
}

#[test]
fn a_kernel_without_device_mapper_has_no_devices() {
    assert_eq!(devices(Path::new("/nonexistent/control")).unwrap(), []);
    assert_eq!(version(Path::new("/nonexistent/control")).unwrap(), None);
    assert!(!has_target(Path::new("/nonexistent/control"), "snapshot").unwrap());
}

#[test]
fn a_list_is_followed_from_entry_to_entry() {
    assert_eq!(listed(&answer_with(&[(0, "", None)])).unwrap(), []);
    let list = [
        (packed(254, 0), "data-a", Some("LVM-abc")),
        (packed(254, 1), "data-long--name", None),
        (packed(254, 300), "seven-b", Some("CRYPT-a")),
    ];
    let seen = listed(&answer_with(&list)).unwrap();
    let minors: Vec<u32> = seen.iter().map(|listed| number(listed.device).minor).collect();
    let uuids: Vec<&str> = seen.iter().map(|listed| listed.uuid.as_str()).collect();
    assert_eq!((minors, uuids), (vec![0, 1, 300], vec!["LVM-abc", "", "CRYPT-a"]));
}

#[test]
fn an_older_kernel_tells_no_uuids() {
    let mut answer = answer_with(&[(packed(254, 0), "data-a", Some("LVM-abc"))]);
    answer[4..8].copy_from_slice(&(VERSION_WITH_UUIDS - 1).to_ne_bytes());
    assert_eq!(listed(&answer).unwrap(), [Listed { device: packed(254, 0), uuid: String::new() }]);
}

#[test]
fn a_device_is_asked_for_by_its_uuid() {
    let request = Request { uuid: "LVM-x", ..Request::default() }.packed(MAPPER_HEADER).unwrap();
    assert_eq!((u32_at(&request, 0).unwrap(), usize_at(&request, 12).unwrap()), (4, MAPPER_HEADER));
    assert_eq!(text_at(&request, 176, UUID_SIZE).unwrap(), "LVM-x");
    assert_eq!(device(Path::new("/nonexistent/control"), "LVM-x").unwrap(), None);
    assert_eq!(device(Path::new("/nonexistent/control"), &"x".repeat(UUID_SIZE)).unwrap(), None);
}

#[test]
fn a_list_that_leads_out_of_the_answer_is_an_error() {
    let mut answer = answer_with(&[(packed(254, 0), "a", None), (packed(254, 1), "b", None)]);
    answer[MAPPER_HEADER + 8..MAPPER_HEADER + 12].copy_from_slice(&u32::MAX.to_ne_bytes());
    listed(&answer).unwrap_err();
    status(&answer[..100]).unwrap_err();
    listed(&answer[..MAPPER_HEADER + 14]).unwrap_err();
}

#[test]
fn a_status_is_read_from_its_fields() {
    let mut answer = answer_with(&[]);
    answer[24..28].copy_from_slice(&3_i32.to_ne_bytes());
    answer[28..32].copy_from_slice(&(SUSPENDED | 1 << 5).to_ne_bytes());
    answer[40..48].copy_from_slice(&packed(254, 1_000_000).to_ne_bytes());
    answer[48..54].copy_from_slice(b"data-a");
    answer[176..181].copy_from_slice(b"LVM-x");
    let expected = MappedDevice {
        name: "data-a".into(),
        uuid: "LVM-x".into(),
        number: DeviceNumber { major: 254, minor: 1_000_000 },
        open_count: 3,
        suspended: true,
        read_only: false,
    };
    assert_eq!(status(&answer).unwrap(), expected);
}
