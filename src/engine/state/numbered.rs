//! Things by number: topics, queues.

/// Things of one kind, by number.
///
/// Numbers rise, and none is given twice, whatever goes: an old record, or an ack id, never means something new. What is
/// gone leaves nothing behind. Finding one is a look at one place as long as none has gone, and a search among the numbers
/// afterwards; taking one out moves as many pointers as there are behind it.
#[derive(Debug)]
pub(super) struct Numbered<T> {
    next: u32,
    /// Ascending.
    numbers: Vec<u32>,
    /// In the same order.
    things: Vec<Box<T>>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self::begun_at(0)
    }
}

impl<T> Numbered<T> {
    /// As many were given so far, the ones that are gone included.
    pub(super) fn begun_at(next: u32) -> Self {
        Self { next, numbers: Vec::new(), things: Vec::new() }
    }

    /// The number that the next one gets.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// How many more there can ever be. One number is never given, so that there always is a next one.
    pub(super) fn left(&self) -> usize {
        usize::try_from(u32::MAX - self.next).unwrap_or(usize::MAX)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.things.len()
    }

    /// Adds one under the next number; `None` if there is none left.
    pub(super) fn push(&mut self, thing: T) -> Option<u32> {
        let number = self.next;
        self.next = number.checked_add(1)?;
        self.add(number, thing);
        Some(number)
    }

    /// Puts one back in its place, behind all that there are. Answers whether it can stand there.
    #[must_use]
    pub(super) fn put_back(&mut self, number: u32, thing: T) -> bool {
        let is_in_place = self.numbers.last().is_none_or(|last| *last < number) && number < self.next;
        if is_in_place {
            self.add(number, thing);
        }
        is_in_place
    }

    fn add(&mut self, number: u32, thing: T) {
        self.numbers.push(number);
        self.things.push(Box::new(thing));
    }

    /// Where a number stands: at the place of that number at most, and there as long as none has gone.
    fn find(&self, number: u32) -> Option<usize> {
        let at_most = usize::try_from(number).ok()?.min(self.numbers.len().checked_sub(1)?);
        if self.numbers[at_most] == number {
            return Some(at_most);
        }
        self.numbers[..at_most].binary_search(&number).ok()
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.find(number).map(|at| &*self.things[at])
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.find(number).map(|at| &mut *self.things[at])
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let at = self.find(number)?;
        self.numbers.remove(at);
        Some(*self.things.remove(at))
    }

    /// Those from a number on, in order.
    pub(super) fn from(&self, number: u32) -> impl Iterator<Item = (u32, &T)> + Clone {
        let at = self.numbers.partition_point(|before| *before < number);
        self.numbers[at..].iter().copied().zip(self.things[at..].iter().map(|thing| &**thing))
    }

    /// All, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> + Clone {
        self.from(0)
    }

    /// All, in order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.things.iter_mut().map(|thing| &mut **thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice_and_what_is_gone_takes_no_room() {
        let mut numbered = Numbered::default();
        for n in 0..1000 {
            assert_eq!(numbered.push(n), Some(n));
            assert_eq!(numbered.remove(n).is_some(), numbered.get(n).is_none());
        }
        assert_eq!((numbered.len(), numbered.next(), numbered.push(7)), (0, 1000, Some(1000)));
        assert_eq!(numbered.iter().collect::<Vec<_>>(), [(1000, &7)]);
        assert_eq!((numbered.from(1000).count(), numbered.from(1001).count()), (1, 0));
    }

    #[test]
    fn each_is_found_under_its_number_whichever_are_gone() {
        for gone in [&[][..], &[0], &[99], &[0, 1, 2, 50, 98, 99], &[7, 8, 9]] {
            let mut numbered = Numbered::default();
            assert!((0..100).all(|n| numbered.push(n * 3) == Some(n)));
            for number in gone {
                assert_eq!(numbered.remove(*number), Some(number * 3));
                assert_eq!(numbered.remove(*number), None);
            }
            for number in 0..110 {
                let there = (number < 100 && !gone.contains(&number)).then_some(number * 3);
                assert_eq!(numbered.get(number), there.as_ref());
                assert_eq!(numbered.get_mut(number).copied(), there);
            }
            assert_eq!(numbered.iter().count(), numbered.len());
        }
    }

    #[test]
    fn what_is_put_back_stands_behind_the_others_and_before_what_comes() {
        let mut numbered = Numbered::begun_at(10);
        assert!(numbered.put_back(3, "a") && numbered.put_back(9, "b"));
        assert!(!numbered.put_back(9, "again") && !numbered.put_back(5, "before") && !numbered.put_back(10, "behind"));
        assert_eq!(numbered.iter().collect::<Vec<_>>(), [(3, &"a"), (9, &"b")]);
        assert_eq!(numbered.push("c"), Some(10));
    }

    #[test]
    fn when_all_numbers_were_given_nothing_more_comes() {
        let mut numbered = Numbered::begun_at(u32::MAX - 1);
        assert_eq!((numbered.left(), numbered.push("last")), (1, Some(u32::MAX - 1)));
        assert_eq!((numbered.left(), numbered.push("one more"), numbered.next()), (0, None, u32::MAX));
    }
}
