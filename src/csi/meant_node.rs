//! Which node a forwarded call means. An address moves from one node to another when their pods are replaced; the answer
//! of the wrong one would be taken for that of the right one: "no such volume", "no room".

use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::error::{Error, Result};

/// Carries the topology value of the node that is meant.
const KEY: &str = "quarry-node";

/// Says in a call's metadata which node it means, by the topology value.
pub fn name_node(metadata: &mut MetadataMap, node: &str) -> Result<()> {
    let value = AsciiMetadataValue::try_from(node);
    let value = value.map_err(|_| Error::invalid("node", format!("{node:?} can be no topology value")))?;
    metadata.insert(KEY, value);
    Ok(())
}

/// Lets only those calls through that mean this node, or, from an older controller, none in particular.
#[derive(Debug, Clone)]
pub struct OnlyFor {
    /// This node's topology value.
    pub node: String,
}

impl Interceptor for OnlyFor {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match request.metadata().get(KEY) {
            Some(meant) if meant.as_bytes() != self.node.as_bytes() => {
                let problem = format!("node {meant:?} is meant, but at this address is node {:?} now", self.node);
                Err(Error::Unavailable { problem }.into())
            }
            _ => Ok(request),
        }
    }
}
