//! `quarry orphans`: volumes that no `PersistentVolume` names, and what removes them. Runs in the controller's pod.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::commands::cluster::{Cluster, now};
use crate::commands::machine::block_on;
use crate::commands::words::{aligned, plain, size};
use crate::config::flags::{OrphansFlags, OutputFormat};
use crate::controller::kubernetes::references::orphans_of;
use crate::controller::orphans::{Orphan, Standing, knows_any};
use crate::csi::condition::Deletable;
use crate::csi::volume_facts::{Content, VolumeFacts};

const HEAD: [&str; 7] = ["ID", "SIZE", "CLASS", "CONTENT", "CREATED", "CLAIM", "WHY"];
const NOTHING: &str = "-";
const FORGETFUL: &str = "The cluster has no PersistentVolume of the driver at all. If it lost them, remove nothing: `quarry \
                         recover-pvs` prints them again. Only in a cluster that is new, --without-any-pv lets --remove \
                         work.";

/// Writes the orphans, or removes some.
pub fn run(flags: &OrphansFlags, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    block_on(async {
        let cluster = Cluster::find(&flags.socket.csi_endpoint).await?;
        let listed = cluster.volumes(flags.reachable_only).await?.volumes;
        let found = orphans_of(&cluster.client, &cluster.driver, &listed, now()).await;
        let (orphans, references) = found.context("could not read what the cluster names")?;
        let is_forgetful = !knows_any(&references, &cluster.driver);
        if is_forgetful && !flags.without_any_pv && !flags.remove.is_empty() {
            bail!("{FORGETFUL}");
        }
        let removable: Vec<&Orphan> =
            flags.remove.iter().map(|id| removable(&orphans, id)).collect::<anyhow::Result<_>>()?;
        for (id, orphan) in flags.remove.iter().zip(removable) {
            let never_used = orphan.volume.facts.never_used;
            cluster.delete(id, if never_used { Deletable::NeverUsed } else { Deletable::Any }).await?;
            writeln!(out, "{id} is deleted: its data is wiped as its class says, then it is gone")?;
        }
        if flags.remove.is_empty() {
            match flags.output.format {
                OutputFormat::Text => write!(out, "{}", in_words(&orphans, is_forgetful))?,
                OutputFormat::Json => writeln!(out, "{}", json!({ "orphans": as_json(&orphans, is_forgetful) }))?,
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// That a person may remove that one here: what is in use by the cluster he deletes there.
fn removable<'o>(orphans: &'o [Orphan], id: &str) -> anyhow::Result<&'o Orphan> {
    match orphans.iter().find(|orphan| orphan.volume.id.to_string() == id) {
        None => bail!("{id} is no orphan now, so it is not removed here"),
        Some(orphan) if !orphan.is_removable() => bail!("{id} is not removed: {}", why(orphan)),
        Some(orphan) => Ok(orphan),
    }
}

/// The command that removes it, where that is right.
fn removal(orphan: &Orphan, is_forgetful: bool) -> Option<String> {
    (orphan.is_removable() && !is_forgetful).then(|| format!("quarry orphans --remove {}", orphan.volume.id))
}

/// The command that brings it back, where that is possible and something may be on it.
fn recovery(orphan: &Orphan) -> Option<String> {
    let is_worth_it = orphan.standing == Standing::Unnamed && !orphan.volume.facts.never_used;
    is_worth_it.then(|| format!("quarry recover-pvs {}", orphan.volume.id))
}

fn why(orphan: &Orphan) -> String {
    match &orphan.standing {
        Standing::Unnamed => String::from("no PersistentVolume names it"),
        Standing::Double { of } => format!("its PersistentVolume names {of}"),
        Standing::Moved { named } => format!("its PersistentVolume names {named}, which was not found: was it moved?"),
        Standing::Ambiguous { with } if *with == orphan.volume.id.to_string() => {
            String::from("its node has two volumes of this id")
        }
        Standing::Ambiguous { with } => format!("it may be the same logical volume as {with}"),
        Standing::Unusable => String::from("its volume group is not that node's to use"),
    }
}

fn content(facts: &VolumeFacts) -> Option<&str> {
    match &facts.content {
        _ if facts.never_used => Some("never used"),
        Some(Content::Block) => Some("block"),
        Some(Content::FileSystem(word)) => Some(word),
        None => None,
    }
}

fn created(facts: &VolumeFacts) -> Option<String> {
    let seconds = i64::try_from(facts.created?).ok()?;
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

fn claim(facts: &VolumeFacts) -> Option<String> {
    facts.claim.as_ref().map(|claim| format!("{}/{}", claim.namespace, claim.name))
}

fn in_words(orphans: &[Orphan], is_forgetful: bool) -> String {
    if orphans.is_empty() {
        return String::from("no orphans\n");
    }
    let or_nothing = |text: Option<&str>| text.map_or_else(|| String::from(NOTHING), plain);
    let cells = orphans.iter().map(|orphan| {
        let facts = &orphan.volume.facts;
        [
            plain(&orphan.volume.id.to_string()),
            size(orphan.volume.bytes),
            or_nothing(facts.class.as_deref()),
            or_nothing(content(facts)),
            or_nothing(created(facts).as_deref()),
            or_nothing(claim(facts).as_deref()),
            why(orphan),
        ]
    });
    let mut lines = aligned(&std::iter::once(HEAD.map(String::from)).chain(cells).collect::<Vec<_>>());
    let recoveries: Vec<String> = orphans.iter().filter_map(recovery).collect();
    let removals: Vec<String> = orphans.iter().filter_map(|orphan| removal(orphan, is_forgetful)).collect();
    if is_forgetful {
        lines.push(format!("\n{FORGETFUL}"));
    }
    for (title, commands) in [
        ("What prints PersistentVolumes for those that were used:", recoveries),
        ("What removes them for good, with the data on them:", removals),
    ] {
        if !commands.is_empty() {
            lines.push(format!("\n{title}"));
            lines.extend(commands.into_iter().map(|command| format!("  {command}")));
        }
    }
    lines.join("\n") + "\n"
}

fn as_json(orphans: &[Orphan], is_forgetful: bool) -> Vec<Value> {
    let one = |orphan: &Orphan| {
        let facts = &orphan.volume.facts;
        json!({
            "id": orphan.volume.id.to_string(),
            "bytes": orphan.volume.bytes,
            "class": facts.class,
            "content": content(facts),
            "neverUsed": facts.never_used,
            "created": created(facts),
            "claim": claim(facts),
            "why": why(orphan),
            "recover": recovery(orphan),
            "remove": removal(orphan, is_forgetful),
        })
    };
    orphans.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::orphans::Listed;
    use crate::lvm::tags::Claim;
    use crate::lvm::volume_id::VolumeId;

    fn orphans() -> Vec<Orphan> {
        let volume = |name: &str, facts| {
            let id = VolumeId { node: String::from("n1"), logical_volume: name.to_owned() };
            Listed { id, bytes: 1 << 30, facts }
        };
        let claim = Some(Claim { namespace: String::from("shop"), name: String::from("data") });
        let class = Some(String::from("fast"));
        let told =
            VolumeFacts { class, claim, created: Some(1_795_555_500), never_used: true, ..VolumeFacts::default() };
        let moved = Standing::Moved { named: String::from("n0/b") };
        vec![
            Orphan { volume: volume("a", told), standing: Standing::Unnamed },
            Orphan { volume: volume("b", VolumeFacts::default()), standing: moved },
            Orphan { volume: volume("c", VolumeFacts::default()), standing: Standing::Unnamed },
        ]
    }

    #[test]
    fn the_table_says_why_and_what_removes_each() {
        let expected = "\
ID    SIZE   CLASS  CONTENT     CREATED               CLAIM      WHY
n1/a  1 GiB  fast   never used  2026-11-24T21:25:00Z  shop/data  no PersistentVolume names it
n1/b  1 GiB  -      -           -                     -          its PersistentVolume names n0/b, which was not found: \
            was it moved?
n1/c  1 GiB  -      -           -                     -          no PersistentVolume names it

What prints PersistentVolumes for those that were used:
  quarry recover-pvs n1/c

What removes them for good, with the data on them:
  quarry orphans --remove n1/a
  quarry orphans --remove n1/c
";
        assert_eq!(in_words(&orphans(), false), expected);
        assert_eq!(in_words(&[], false), "no orphans\n");
    }

    #[test]
    fn a_cluster_that_has_forgotten_all_is_told_to_recover_and_not_how_to_remove() {
        let words = in_words(&orphans(), true);
        assert!(words.contains("recover-pvs") && !words.contains("--remove n1/"), "{words}");
        assert_eq!(as_json(&orphans(), true)[0]["remove"], Value::Null);
    }

    #[test]
    fn json_has_the_same() {
        let json = as_json(&orphans(), false);
        assert_eq!((&json[0]["remove"], &json[1]["remove"]), (&json!("quarry orphans --remove n1/a"), &Value::Null));
        assert_eq!((&json[0]["recover"], &json[2]["recover"]), (&Value::Null, &json!("quarry recover-pvs n1/c")));
        assert_eq!((&json[0]["bytes"], &json[0]["claim"]), (&json!(1 << 30), &json!("shop/data")));
    }

    #[test]
    fn only_an_orphan_that_is_nobodys_is_removed() {
        let orphans = orphans();
        assert!(removable(&orphans, "n1/a").is_ok());
        assert!(removable(&orphans, "n1/d").unwrap_err().to_string().contains("no orphan now"));
        assert!(removable(&orphans, "n1/b").unwrap_err().to_string().contains("moved"));
    }
}
