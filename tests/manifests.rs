//! deploy/quarry.yaml against the program that it starts: each side is of no use if the other does not understand it.
//! That it is what the chart gives, and that Kubernetes takes it, tests/chart proves.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use clap::Parser;
use quarry::config::classes::Classes;
use quarry::config::flags::Arguments;
use quarry::host::check_options;
use serde_json::Value;

fn objects() -> Vec<Value> {
    serde_saphyr::from_multiple(include_str!("../deploy/quarry.yaml")).unwrap()
}

fn object(kind: &str, name: &str) -> Value {
    let is_wanted = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects().into_iter().find(is_wanted).unwrap()
}

#[test]
fn the_classes_are_a_file_that_a_node_takes() {
    let classes = object("ConfigMap", "quarry-classes");
    let text = classes["data"]["classes.yaml"].as_str().unwrap();
    Classes::parse(text, check_options).unwrap();
}

#[test]
fn the_program_takes_its_arguments() {
    for kind in [("Deployment", "quarry-controller"), ("DaemonSet", "quarry-node")] {
        let pod = object(kind.0, kind.1);
        let containers = pod["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
        let quarry = containers.into_iter().find(|container| container["name"] == "quarry").unwrap();
        let words = quarry["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
        // The downward API tells a pod its namespace by a variable.
        let namespace = ["--namespace", "quarry"].map(String::from).into_iter().filter(|_| kind.0 == "Deployment");
        let words = std::iter::once(String::from("quarry")).chain(words).chain(namespace);
        Arguments::try_parse_from(words).unwrap();
    }
}
