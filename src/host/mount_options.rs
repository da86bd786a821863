use crate::host::file_system::FileSystem; pub fn parse(w:&[String])->Result<Vec<String>,String>{Ok(w.to_vec())} pub fn check(_f:FileSystem,_w:&[String])->Result<(),String>{Ok(())}
pub fn per_mount(w:&[String])->Vec<String>{w.to_vec()} pub fn is_read_only(w:&[String])->bool{w.iter().any(|x|x=="ro")}
