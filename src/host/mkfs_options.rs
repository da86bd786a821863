use crate::host::file_system::FileSystem; pub fn check(_f:FileSystem,_w:&[String])->Result<(),String>{Ok(())}
