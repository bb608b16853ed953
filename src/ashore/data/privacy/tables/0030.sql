-- Every reservation counts and sums the spends of its budget, under the lock: the index alone answers both.
DROP INDEX dp_spend_of;
CREATE INDEX dp_spend_of ON dp_spend (budget, kind, state, units, delta);
