//! Small steps that all cases are made of.

use std::future::Future;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tonic::{Code, Response, Status};

use super::lvm_stand_in::REAL_LVM;

/// Runs a program that must end well; answers with what it printed.
pub fn run(words: &[&str]) -> Result<String> {
    let (program, arguments) = words.split_first().context("no program")?;
    let output = Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "`{}`: {}: {error} {text}", words.join(" "), output.status);
    Ok(text)
}

/// Runs lvm as an admin would. Always the real one, whatever stands in for it at the node.
pub fn lvm(words: &[&str]) -> Result<String> {
    run(&[&[REAL_LVM], words].concat())
}

/// That a call was refused with the code, in words that hold all of these.
pub fn refused<T>(answer: Result<Response<T>, Status>, code: Code, words: &[&str]) -> Result<()> {
    let Err(status) = answer else { bail!("it was done, but {code:?} was expected") };
    ensure!(status.code() == code, "{code:?} was expected, not {:?}: {}", status.code(), status.message());
    for word in words {
        ensure!(status.message().contains(word), "{word:?} is missing in the message {:?}", status.message());
    }
    Ok(())
}

/// The answer of a call that must succeed.
pub fn answered<T>(answer: Result<Response<T>, Status>) -> Result<T> {
    answer.map(Response::into_inner).map_err(|status| anyhow!("{:?}: {}", status.code(), status.message()))
}

/// The result of something that must end in time.
pub async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(limit, work).await.map_err(|_| anyhow!("{what} took longer than {limit:?}"))
}

/// Waits until something holds.
pub async fn eventually<F: Future<Output = Result<bool>>>(what: &str, holds: impl Fn() -> F) -> Result<()> {
    let begun = Instant::now();
    while !holds().await? {
        ensure!(begun.elapsed() < Duration::from_secs(40), "after 40 s still not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Bytes of the file system that is mounted at a path.
pub fn bytes_of_file_system(path: &Path) -> Result<i64> {
    let answer = run(&["stat", "--file-system", "--format", "%b %S", &path.to_string_lossy()])?;
    let numbers: Vec<i64> = answer.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    Ok(numbers.iter().product())
}

/// Options of the topmost mount at a path: of the mount and of its file system; `None` when nothing is mounted there.
pub fn mount_options_at(path: &Path) -> Result<Option<(String, String)>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let wanted = path.to_string_lossy();
    let mut found = None;
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (Some(target), Some(options), Some(of_file_system)) = (fields.get(4), fields.get(5), fields.last()) else {
            bail!("a line of the mount table is not understood: {line}");
        };
        if *target == wanted {
            found = Some(((*options).to_owned(), (*of_file_system).to_owned()));
        }
    }
    Ok(found)
}
