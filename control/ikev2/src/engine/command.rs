//! The operator's commands, and what the dataplane tells.

use super::*;
use crate::input::ChildId;
use crate::wire::TrafficSelector;

impl Engine {
    pub(super) fn initiate_command(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        connection: Option<String>,
        child: Option<String>,
        packet: Option<[TrafficSelector; 2]>,
        request: Option<RequestId>,
    ) {
        let found = self.find_connection(connection.as_deref(), child.as_deref());
        let Some(connection) = found else {
            let what = child.or(connection).unwrap_or_default();
            self.done(request, Err(format!("no connection or child {what:?} is configured")));
            return;
        };
        // An IKE SA that is there carries the new child.
        if let Some(name) = &child {
            let Some(policy) = connection.child(name).cloned() else { return };
            if let Some(id) = self.established_for(&connection.name) {
                self.with_sa(now, host, id, |state, ctx| {
                    state.initiate_child(ctx, &policy, packet, request)
                });
                return;
            }
            match self.join(&connection.name, name, request) {
                // A packet asks again and again, and an operator is told when it is up.
                Some(true) => return,
                Some(false) => {
                    self.done(request, Err("it is being initiated already".into()));
                    return;
                }
                None => {}
            }
        }
        let children = match child {
            Some(child) => vec![child],
            None => Vec::new(),
        };
        let initial_contact = self.established_for(&connection.name).is_none();
        let goal = Goal { children, packet, request, initial_contact, ..Goal::default() };
        self.start(now, host, connection, goal);
    }

    /// One that is coming up carries one more child; see [`State::join`].
    fn join(&mut self, connection: &str, child: &str, request: Option<RequestId>) -> Option<bool> {
        let coming: Vec<IkeId> = self.index.by_connection(connection).collect();
        coming
            .into_iter()
            .find_map(|id| self.sas.get_mut(&id).and_then(|state| state.join(child, request)))
    }

    fn find_connection(
        &self,
        connection: Option<&str>,
        child: Option<&str>,
    ) -> Option<Arc<ConnectionPolicy>> {
        let fits = |policy: &&Arc<ConnectionPolicy>| {
            connection.is_none_or(|name| policy.name == name)
                && child.is_none_or(|name| policy.child(name).is_some())
        };
        self.configuration.connections.iter().find(fits).cloned()
    }

    fn established_for(&self, connection: &str) -> Option<IkeId> {
        let usable = |id: &IkeId| match self.sas.get(id) {
            Some(State::Established(sa)) => sa.is_usable(),
            _ => false,
        };
        self.index.by_connection(connection).rev().find(usable)
    }

    fn start(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        connection: Arc<ConnectionPolicy>,
        goal: Goal,
    ) {
        let request = goal.request;
        let started = self.with_context(now, host, |ctx| {
            let id = ctx.next_ike();
            ike_sa_init::initiate(ctx, id, connection, goal).map(|state| (id, state))
        });
        match started {
            Ok((id, state)) => self.put_back(id, State::InitRequested(Box::new(state))),
            Err(why) => self.done(request, Err(why)),
        }
    }

    pub(super) fn start_planned(&mut self, now: Now, host: &mut dyn Host, planned: Planned) {
        let Planned { connection, child, replaces, failures, request, .. } = planned;
        // The configuration may be another one by now.
        let Some(connection) = self.find_connection(Some(&connection.name), child.as_deref())
        else {
            self.done(request, Err("the connection is not configured any more".into()));
            return;
        };
        let old = replaces.and_then(|id| self.sas.get(&id));
        if child.is_none() && replaces.is_some() && !old.is_some_and(State::may_be_replaced) {
            self.done(request, Err("the IKE_SA that was to be replaced is gone".into()));
            return;
        }
        let mut children: Vec<String> = match old {
            Some(State::Established(old)) => old.child_names(),
            _ => Vec::new(),
        };
        if let Some(child) = child
            && !children.contains(&child)
        {
            if old.is_none()
                && let Some(id) = self.established_for(&connection.name)
                && let Some(policy) = connection.child(&child).cloned()
            {
                self.with_sa(now, host, id, |state, ctx| {
                    state.initiate_child(ctx, &policy, None, request)
                });
                return;
            }
            if replaces.is_none() && self.join(&connection.name, &child, request) == Some(true) {
                return;
            }
            children.push(child);
        }
        let initial_contact =
            replaces.is_none() && self.established_for(&connection.name).is_none();
        let goal =
            Goal { children, replaces, failures, request, initial_contact, ..Goal::default() };
        self.start(now, host, connection, goal);
    }

    /// Ends what is there, and what would be tried again: an operator who closes a connection
    /// does not expect it to come up by itself a moment later.
    pub(super) fn terminate_command(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        target: &Target,
        force: bool,
        request: Option<RequestId>,
    ) {
        let meant = |planned: &mut Planned| match target {
            Target::Ike(id) => planned.replaces == Some(*id),
            Target::Connection(name) => planned.connection.name == *name,
            Target::Child { connection, child } => {
                let of = connection.as_ref();
                of.is_none_or(|name| planned.connection.name == *name)
                    && planned.child.as_ref() == Some(child)
            }
            Target::ChildSa(_) => false,
        };
        let planned: Vec<Planned> = self.planned.extract_if(.., meant).collect();
        for planned in &planned {
            self.done(planned.request, Err("terminated".into()));
        }
        if !planned.is_empty() && self.concerned(target).is_empty() {
            self.done(request, Ok(planned.len() as u32));
            return;
        }
        self.command(now, host, target, request, |state, ctx, child, request| {
            state.terminate(ctx, child, force, request)
        });
    }

    /// Runs a command on every SA it is meant for; tells at once if there is none.
    pub(super) fn command(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        target: &Target,
        request: Option<RequestId>,
        work: impl Fn(State, &mut Context<'_>, Option<ChildId>, Option<RequestId>) -> State,
    ) {
        let concerned = self.concerned(target);
        if concerned.is_empty() {
            self.done(request, Err("no matching SAs".into()));
            return;
        }
        // One answer for all of them: the last one gives it.
        let last = concerned.len() - 1;
        for (position, (id, child)) in concerned.into_iter().enumerate() {
            let request = request.filter(|_| position == last);
            self.with_sa(now, host, id, |state, ctx| work(state, ctx, child, request));
        }
    }

    fn concerned(&self, target: &Target) -> Vec<(IkeId, Option<ChildId>)> {
        let mut found = Vec::new();
        for (id, state) in &self.sas {
            let connection = state.connection_name();
            match target {
                Target::Ike(wanted) if wanted == id => found.push((*id, None)),
                Target::Connection(name) if connection == Some(name) => found.push((*id, None)),
                Target::Ike(_) | Target::Connection(_) => {}
                Target::Child { connection: of, child } => {
                    let State::Established(sa) = state else { continue };
                    if of.as_ref().is_none_or(|name| connection == Some(name)) {
                        let named = sa.live_children(child);
                        found.extend(named.into_iter().map(|child| (*id, Some(child))));
                    }
                }
                Target::ChildSa(wanted) => {
                    let State::Established(sa) = state else { continue };
                    if sa.children.iter().any(|child| child.id == *wanted) {
                        found.push((*id, Some(*wanted)));
                    }
                }
            }
        }
        found
    }

    pub(super) fn with_child(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        spi_in: u32,
        work: impl FnOnce(State, &mut Context<'_>) -> State,
    ) {
        let owner = self.index.by_child(spi_in);
        if let Some(id) = owner {
            self.with_sa(now, host, id, work);
        }
    }

    pub(super) fn done(&mut self, request: Option<RequestId>, result: Result<u32, String>) {
        if let Some(request) = request {
            self.actions.push_back(Action::Done { request, result });
        }
    }
}
