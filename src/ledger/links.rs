//! Doubly linked lists through one array, so that queueing allocates nothing; no meaning of their own.

/// No element.
const NIL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
}

/// One list's ends. An element is in at most one of the lists that share a [`Links`].
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL, len: 0 };

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) const fn front(&self) -> Option<u32> {
        if self.head == NIL { None } else { Some(self.head) }
    }
}

/// The links of elements 0 to n − 1.
#[derive(Debug)]
pub(super) struct Links(Box<[Link]>);

impl Links {
    pub(super) fn new(count: u32) -> Self {
        Self((0..count).map(|_| Link { prev: NIL, next: NIL }).collect())
    }

    pub(super) fn push_back(&mut self, list: &mut List, element: u32) {
        self.0[element as usize] = Link { prev: list.tail, next: NIL };
        match list.tail {
            NIL => list.head = element,
            tail => self.0[tail as usize].next = element,
        }
        list.tail = element;
        list.len += 1;
    }

    /// Takes the element out of the list, which must hold it.
    pub(super) fn remove(&mut self, list: &mut List, element: u32) {
        let Link { prev, next } = self.0[element as usize];
        match prev {
            NIL => list.head = next,
            prev => self.0[prev as usize].next = next,
        }
        match next {
            NIL => list.tail = prev,
            next => self.0[next as usize].prev = prev,
        }
        list.len -= 1;
    }

    pub(super) fn pop_front(&mut self, list: &mut List) -> Option<u32> {
        let front = list.front()?;
        self.remove(list, front);
        Some(front)
    }

    /// The element after that one in its list.
    pub(super) fn next(&self, element: u32) -> Option<u32> {
        let next = self.0[element as usize].next;
        (next != NIL).then_some(next)
    }

    /// The list's elements, front first.
    pub(super) fn iter(&self, list: &List) -> impl Iterator<Item = u32> {
        std::iter::successors(list.front(), |element| self.next(*element))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn a_list_is_the_queue_it_stands_for(steps in proptest::collection::vec((0_u8..3, 0_u32..8), 0..200)) {
            let (mut links, mut list, mut model) = (Links::new(8), List::EMPTY, VecDeque::new());
            for (step, element) in steps {
                match (step, model.iter().position(|e| *e == element)) {
                    (0, None) => {
                        links.push_back(&mut list, element);
                        model.push_back(element);
                    }
                    (1, Some(at)) => {
                        links.remove(&mut list, element);
                        model.remove(at);
                    }
                    (2, _) => prop_assert_eq!(links.pop_front(&mut list), model.pop_front()),
                    _ => {}
                }
                prop_assert_eq!(links.iter(&list).collect::<VecDeque<_>>(), model.clone());
                prop_assert_eq!(list.len() as usize, model.len());
            }
        }
    }
}
