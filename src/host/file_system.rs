use std::path::Path; use std::str::FromStr; use std::fmt; use crate::host::commands::Command;
#[derive(Debug,Clone,Copy,PartialEq,Eq)] pub enum FileSystem{Ext4,Xfs,Btrfs}
impl FileSystem{ pub fn word(self)->&'static str{match self{Self::Ext4=>"ext4",Self::Xfs=>"xfs",Self::Btrfs=>"btrfs"}}
pub fn minimum_bytes(self)->u64{2<<20} pub fn mkfs(self,d:&Path,o:&[String])->Command{Command::new("mkfs.ext4").arguments(["-q","-F"]).arguments(o.iter().cloned()).argument(d)}
pub fn grow(self,d:&Path,_m:&Path)->Command{Command::new("resize2fs").argument(d)} }
impl fmt::Display for FileSystem{fn fmt(&self,f:&mut fmt::Formatter<'_>)->fmt::Result{f.write_str(self.word())}}
impl FromStr for FileSystem{type Err=String; fn from_str(s:&str)->Result<Self,String>{match s{"ext4"=>Ok(Self::Ext4),"xfs"=>Ok(Self::Xfs),"btrfs"=>Ok(Self::Btrfs),_=>Err("no".into())}}}
