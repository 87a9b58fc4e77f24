//! Making a damaged data directory one on which a broker starts, at the price of what is damaged.
//!
//! Nothing is ever removed: what is taken out goes to `set-aside/<moment>/`, where it keeps its name, with a file `REPORT`
//! that says why. It is done under the lock of the data directory, and only if everything that stops a start can be
//! repaired. The invariant: whatever is whole before the damage is kept; a repair that is broken off anywhere leaves a
//! directory that is refused, and that can be repaired, or one that is repaired already.

use std::path::PathBuf;

use super::{
    Diagnosis, Plan, diagnose,
    examine::{Beside, look},
    report,
    surgery::Surgery,
};
use crate::engine::{
    LoadError, Options,
    journal::file::{self, DataDir, DirLock, Found, Holder, LockError, StoreId},
};

/// What a repair came to.
#[derive(Debug)]
pub struct Repair {
    /// Where things were set aside, and what was done; `None` if nothing had to be.
    pub set_aside: Option<(PathBuf, Plan)>,
    /// How it is now.
    pub after: Diagnosis,
}

/// Why nothing was repaired, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// A broker is at work there, or the lock cannot be taken.
    #[error("nothing was repaired")]
    Lock(#[from] LockError),
    /// It is no data directory, or something in it cannot be repaired.
    #[error("nothing was repaired: what is wrong here cannot be")]
    Hopeless {
        /// What is wrong.
        diagnosis: Box<Diagnosis>,
    },
    /// A call to the operating system failed. What was done by then is whole, and the repair can be tried again.
    #[error("the repair was broken off")]
    Io(#[from] LoadError),
}

/// Repairs the data directory of `options`, if it has to be.
///
/// # Errors
/// [`RepairError`].
pub fn repair(options: &Options) -> Result<Repair, RepairError> {
    // Where no store is there is nothing to repair, and nothing is to be made, not even a lock.
    if !matches!(file::classify(&options.data_dir), Ok(Found::Usable(DataDir::Ours))) {
        return Err(RepairError::Hopeless { diagnosis: Box::new(diagnose(options)) });
    }
    let last_holder = Holder::look(&options.data_dir).unwrap_or(Holder::Never);
    let lock = DirLock::acquire(&options.data_dir)?;
    let look = || Diagnosis { holder: last_holder.clone(), ..look(options, Beside::Nobody) };
    let before = look();
    if before.is_beyond_repair() {
        return Err(RepairError::Hopeless { diagnosis: Box::new(before) });
    }
    let (Some(plan), StoreId::Named(store)) = (&before.plan, before.journal.store) else {
        return Ok(Repair { set_aside: None, after: before });
    };
    let moment = options.clock.now().to_string().replace(':', "-");
    let surgery = Surgery::begin(options.disk.clone(), &options.data_dir, store, &moment)?;
    surgery.carry_out(plan, &report::text(&before, plan, &moment))?;
    let set_aside = Some((surgery.aside().to_path_buf(), plan.clone()));
    let after = look();
    drop(lock);
    Ok(Repair { set_aside, after })
}
