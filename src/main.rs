//! The program: reads the command line and hands over.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use quarry::commands::{certificates, check_config, controller, doctor, node, orphans, recover_pvs, version, volumes};
use quarry::config::flags::{Arguments, Mode};
use quarry::host::check_options;

fn main() -> ExitCode {
    // Not by returning the error: that would print a backtrace, which helps nobody who mistyped a flag.
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("quarry: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout();
    match arguments.mode {
        Mode::Version(flags) => {
            version::run(flags.format, &mut out)?;
            Ok(ExitCode::SUCCESS)
        }
        Mode::CheckConfig(flags) => Ok(check_config::run(&flags.file, flags.output.format, check_options, &mut out)?),
        Mode::Certificates(flags) => {
            certificates::run(&flags, &mut out)?;
            Ok(ExitCode::SUCCESS)
        }
        Mode::Node(flags) => {
            node::run(&flags)?;
            Ok(ExitCode::SUCCESS)
        }
        Mode::Controller(flags) => {
            controller::run(&flags)?;
            Ok(ExitCode::SUCCESS)
        }
        Mode::Volumes(flags) => volumes::run(&flags, &mut out),
        Mode::Orphans(flags) => orphans::run(&flags, &mut out),
        Mode::RecoverPvs(flags) => recover_pvs::run(&flags, &mut out),
        Mode::Doctor(flags) => doctor::run(&flags, &mut out),
    }
}
