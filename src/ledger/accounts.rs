//! What each user holds, for the quotas; it judges nothing.

use std::collections::HashMap;

/// What one user holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) leases: u32,
    pub(super) connections: u32,
    /// Requests that wait.
    pub(super) waiting: u32,
    /// Slots that those requests ask for.
    pub(super) waiting_slots: u32,
}

/// Users who hold anything.
#[derive(Debug)]
pub(super) struct Accounts(HashMap<u32, User>);

impl Accounts {
    /// For at most so many users at once. The table is twice as large: std's map cleans its removed entries out in place
    /// only while at most half of it is in use, and allocates otherwise.
    pub(super) fn new(users_max: u32) -> Self {
        Self(HashMap::with_capacity(2 * users_max as usize + 2))
    }

    pub(super) fn of(&self, uid: u32) -> User {
        self.0.get(&uid).copied().unwrap_or_default()
    }

    pub(super) fn change(&mut self, uid: u32, edit: impl FnOnce(&mut User)) {
        let user = self.0.entry(uid).or_default();
        edit(user);
        if *user == User::default() {
            self.0.remove(&uid);
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, User)> {
        self.0.iter().map(|(uid, user)| (*uid, *user))
    }
}
