//! What is measured of the pools.

use crate::host::kernel::PoolStatus;
use crate::lvm::groups::View;
use crate::lvm::pool::growth::METADATA_BLOCK;
use crate::lvm::pool::promised;
use crate::node::Node;
use crate::node::pools::trouble::Trouble;
use crate::telemetry::ThinPoolGauges;

impl Node {
    /// The pools that the classes name. Of those that do not answer, or are not active, there is only what lvm says.
    pub async fn pool_figures(&self, view: &View) -> Vec<ThinPoolGauges> {
        let mut figures = Vec::new();
        for (group, logical, rules) in self.class_pools(view) {
            let (Some(pool), Ok((status, trouble))) = (&logical.pool, self.pool_trouble(&group, &logical).await) else {
                continue;
            };
            let live = |value: fn(&PoolStatus) -> u64, unit: u64| status.as_ref().map(|status| value(status) * unit);
            figures.push(ThinPoolGauges {
                volume_group: group.name.clone(),
                thin_pool: logical.name.clone(),
                data_bytes: live(|status| status.total_data, pool.chunk_bytes),
                data_used_bytes: live(|status| status.used_data, pool.chunk_bytes),
                metadata_bytes: live(|status| status.total_metadata, METADATA_BLOCK),
                metadata_used_bytes: live(|status| status.used_metadata, METADATA_BLOCK),
                promised_bytes: promised(&group, &logical.name, pool.chunk_bytes) * group.extent_bytes,
                limit_bytes: rules.limit(logical.extents) * group.extent_bytes,
                trouble: trouble.as_ref().map(Trouble::reason),
            });
        }
        figures
    }
}
