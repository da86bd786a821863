use std::path::Path; use crate::host::kernel::*; use crate::host::commands::Commands; use crate::host::superblock::*; use crate::error::*;
#[derive(Debug)] pub enum Content{Blank,FileSystem(Superblock),Other(String)}
pub async fn probe(k:&dyn Kernel,_c:&dyn Commands,d:&Path,b:u64)->Result<Content>{ let h=k.read(vec![Stretch{device:d.to_owned(),offset:0,length:b.min(1<<20)}]).await.pop().unwrap().map_err(|e|Error::kernel("read",e))?; Ok(recognise(&h).map_or(Content::Blank,Content::FileSystem))}
