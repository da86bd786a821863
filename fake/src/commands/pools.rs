//! What lvm does with a thin pool: it commits what it is going to tell the kernel, tells it, and commits that it has. The
//! numbers of the transactions on both sides say later how far it came.

use super::{Activation, Ended, refused};
use crate::lvm::{Message, Pool};
use crate::machine::Machine;

impl Machine {
    /// That the pool is active, or that it can be for the time of a command: lvm checks it then, for which it opens the
    /// device of its metadata.
    pub(super) fn ensure_reachable(&mut self, group: &str, pool: &str, activation: Activation) -> Ended {
        if self.is_pool_active(group, pool) {
            return Ok(());
        }
        if !activation.waits {
            return refused("/dev/mapper/vg-pool_tmeta: open failed: No such file or directory");
        }
        let number = self.volume(group, pool).unwrap().number;
        let Some(there) = self.pools.get_mut(&number).filter(|there| there.has_leaks) else { return Ok(()) };
        there.has_leaks = !activation.repairs;
        if there.has_leaks { refused("Check of pool failed (status:64). Manual repair required!") } else { Ok(()) }
    }

    /// Adds a message to those that the pool's next commit has. They are of one transaction.
    pub(super) fn queue(&mut self, group: &str, pool: &str, message: Message) {
        let pool = self.group_mut(group).unwrap().pool_mut(pool).unwrap();
        if pool.messages.is_empty() {
            pool.transaction_id += 1;
        }
        pool.messages.push(message);
    }

    /// Sends what was committed, and commits that it was.
    pub(super) fn send(&mut self, group: &str, pool: &str, activation: Activation) -> Ended {
        if self.pool_in(group, pool).messages.is_empty() {
            return Ok(());
        }
        self.ensure_reachable(group, pool, activation)?;
        self.tell_kernel(group, pool)?;
        self.group_mut(group).unwrap().pool_mut(pool).unwrap().messages.clear();
        self.committed(group)
    }

    /// Sends what was committed, if that was not done yet.
    pub(super) fn tell_kernel(&mut self, group: &str, pool: &str) -> Ended {
        let Pool { transaction_id, messages, .. } = self.pool_in(group, pool).clone();
        let number = self.volume(group, pool).unwrap().number;
        let kernel = self.pools.get_mut(&number).unwrap();
        if kernel.transaction_id() == transaction_id {
            return Ok(());
        }
        for message in messages {
            match message {
                Message::Create { device, .. } if kernel.has(device) => return refused("File exists"),
                Message::Create { device, origin, .. } => kernel.create(device, origin),
                // Of one that is not there it does not complain.
                Message::Delete(device) if !kernel.has(device) => {}
                Message::Delete(device) => kernel.delete(device),
            }
        }
        kernel.end_transaction(transaction_id);
        self.commit_pool(group, pool);
        Ok(())
    }

    /// That lvm and the kernel agree on the pool, or would once they have talked.
    pub(super) fn ensure_same_transaction(&self, group: &str, pool: &str) {
        let (there, number) = (self.pool_in(group, pool), self.volume(group, pool).unwrap().number);
        let kernel = self.pools[&number].transaction_id();
        let is_unsent = !there.messages.is_empty() && kernel + 1 == there.transaction_id;
        assert!(
            kernel == there.transaction_id || is_unsent,
            "the transaction ids of lvm and of the kernel do not match"
        );
    }

    pub(super) fn pool_in(&self, group: &str, pool: &str) -> &Pool {
        self.group(group).and_then(|group| group.pool(pool)).unwrap()
    }
}
