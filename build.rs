//! Generates the CSI types, clients and servers from `proto/csi.proto`; needs no protoc.

use std::error::Error;

use protox::prost_reflect::{DescriptorPool, MessageDescriptor};

const PROTOCOL: &str = "proto/csi.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTOCOL}");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file(PROTOCOL)?;
    tonic_prost_build::configure()
        // A service has the calls that it offers; `csi::observe` says of the others that they are not.
        .generate_default_stubs(true)
        .skip_debug(secret_bearers(&compiler.descriptor_pool())?)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// The messages that get no `Debug`: what holds a secret then cannot be logged, for it does not compile.
///
/// The compiled set above does not know the spec's own options, the pool does.
fn secret_bearers(pool: &DescriptorPool) -> Result<Vec<String>, Box<dyn Error>> {
    let secret =
        pool.get_extension_by_name("csi.v1.csi_secret").ok_or("the protocol does not define the option csi_secret")?;
    let bears_secret = |message: &MessageDescriptor| {
        message
            .fields()
            .any(|field| field.name() == "secrets" || field.options().get_extension(&secret).as_bool() == Some(true))
    };
    let bearers: Vec<String> = pool
        .all_messages()
        .filter(|message| message.package_name() == "csi.v1" && bears_secret(message))
        .map(|message| format!(".{}", message.full_name()))
        .collect();
    // A message that merely contains one would need the same; the spec has none, and its `Debug` would not compile.
    if bearers.is_empty() {
        return Err("no message bears a secret: the option is not read as it should be".into());
    }
    Ok(bearers)
}
