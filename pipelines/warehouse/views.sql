-- The views of an imsr workspace, written anew at every publish.
-- They name explicit, immutable files: a session goes on answering from the state that it opened, while runs write.

CREATE OR REPLACE VIEW spans AS
  SELECT s.span_id, make_timestamp(s.start_us) AS start_time, make_timestamp(s.end_us) AS end_time, s.state,
         s.data_version, v.rows AS events, v.users, v.items, s.error, s.updated_at
  FROM ${spans} s LEFT JOIN ${span_versions} v USING (span_id, data_version)
  ORDER BY start_time;

CREATE OR REPLACE VIEW versions AS
  SELECT version_id, line, span_id, parent, state, strategy, created_at,
         (summary ->> 'users')::BIGINT AS users, (summary ->> 'items')::BIGINT AS items,
         (summary ->> 'interests')::BIGINT AS interests, (summary ->> 'mean_interests')::DOUBLE AS mean_interests,
         (summary ->> 'active_users')::BIGINT AS active_users, (summary ->> 'new_users')::BIGINT AS new_users,
         (summary ->> 'detected_users')::BIGINT AS detected_users, (summary ->> 'born')::BIGINT AS born,
         (summary ->> 'trimmed')::BIGINT AS trimmed, (summary ->> 'forgotten')::BIGINT AS forgotten,
         (summary ->> 'train_seconds')::DOUBLE AS train_seconds, summary, fingerprint, path,
         version_id IN (SELECT version_id FROM ${pointers}) AS current
  FROM ${versions};

-- Which version was live when: one row for each move of a line's pointer.
CREATE OR REPLACE VIEW promotions AS
  SELECT seq, line, version_id, previous, reason, "at"::TIMESTAMPTZ AS live_from,
         lead("at"::TIMESTAMPTZ) OVER (PARTITION BY line ORDER BY seq) AS live_until
  FROM ${promotions};

-- Test-then-train: the version's score on a span that it had not seen. Slices: all, last, repeat, explore, everything,
-- old_users, new_users, strangers, and column=value for each group of users that [segments] names.
CREATE OR REPLACE VIEW metrics AS
  SELECT m.span_id, m.version_id, v.strategy, m.slice, m.protocol, m.metric, m.value, m.n
  FROM ${metrics} m JOIN ${versions} v USING (version_id) LEFT JOIN ${spans} t ON t.span_id = m.span_id
  WHERE v.line <> 'users'
  ORDER BY t.start_us, m.slice, m.metric;

-- R[version, span] of the live chain, by the interests alone, on a sample of users: how a version ranks what it has learnt.
-- learnt_value is that of the version that learnt the span, best_value the best of the versions before.
CREATE OR REPLACE VIEW span_metrics AS
  WITH placed AS (SELECT m.*, l.place, l.span_id AS newest FROM ${span_matrix} m JOIN ${lineage} l USING (version_id)),
  compared AS (
    SELECT *, first_value(value) OVER spans AS learnt_value,
           max(value) OVER (spans ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS best_value
    FROM placed WINDOW spans AS (PARTITION BY span_id, metric ORDER BY place))
  SELECT version_id, newest AS version_span, span_id, metric, value, n, learnt_value, best_value,
         best_value - value AS forgotten, CASE WHEN span_id <> newest THEN value - learnt_value END AS transfer
  FROM compared LEFT JOIN ${spans} t USING (span_id) ORDER BY place, t.start_us;

-- What each version of the live chain has forgotten: means over the spans that it learnt before its own.
CREATE OR REPLACE VIEW forgetting AS
  SELECT version_id, version_span, metric, avg(m.value) AS value, avg(m.forgotten) AS forgetting,
         avg(m.transfer) AS backward_transfer, count(*) AS spans
  FROM span_metrics m JOIN ${lineage} l USING (version_id)
  WHERE m.span_id <> version_span GROUP BY version_id, version_span, metric, l.place ORDER BY l.place;

-- The users line: each task of each version, with its score there (R[version, task]), the share of its first score that
-- is forgotten, the share of weights that were free after it (conure), its patches' share of the backbone (peterrec).
CREATE OR REPLACE VIEW tasks AS
  WITH held AS (
    SELECT *, unnest(from_json(summary -> 'tasks', '[{"name": "VARCHAR", "kind": "VARCHAR", "learnt_in": "VARCHAR",
             "span_id": "VARCHAR", "labels": "BIGINT", "n_labels": "BIGINT", "capacity_left": "DOUBLE",
             "parameter_share": "DOUBLE", "epochs": "BIGINT", "score": "DOUBLE", "forgetting": "DOUBLE"}]')) AS t
    FROM ${versions} WHERE line = 'users')
  SELECT t.name AS task, version_id, state, strategy AS method, t.kind, t.learnt_in, t.span_id AS learnt_span, t.labels,
         t.n_labels, t.score, t.forgetting, t.capacity_left, t.parameter_share, t.epochs,
         CASE WHEN t.learnt_in = version_id THEN (summary ->> 'train_seconds')::DOUBLE END AS train_seconds, created_at,
         version_id IN (SELECT version_id FROM ${pointers}) AS current
  FROM held ORDER BY created_at, version_id, t.learnt_in;

-- R[version, task] with every metric, on test users who never change; first_value is the score when it was learnt.
CREATE OR REPLACE VIEW task_metrics AS
  SELECT m.slice AS task, m.version_id, v.parent, v.state, m.metric, m.value, m.n, f.value AS first_value,
         (m.value - f.value) / nullif(f.value, 0) AS change
  FROM ${metrics} m JOIN ${versions} v USING (version_id)
  JOIN tasks t ON t.version_id = m.version_id AND t.task = m.slice
  LEFT JOIN ${metrics} f ON f.version_id = t.learnt_in AND f.slice = m.slice AND f.metric = m.metric
  WHERE v.line = 'users'
  ORDER BY v.created_at, m.version_id, m.slice, m.metric;

-- What the gate looked at before each version went live, or did not. difference = candidate - current, with its
-- confidence interval, over n events that the version was kept from learning; passed is the check's own.
CREATE OR REPLACE VIEW verdicts AS
  WITH judged AS (
    SELECT version_id, span_id, state, (summary -> 'verdict' -> 'passed')::BOOLEAN AS verdict,
           unnest(from_json(summary -> 'verdict' -> 'checks', '[{"name": "VARCHAR", "slice": "VARCHAR",
             "metric": "VARCHAR", "current": "DOUBLE", "candidate": "DOUBLE", "difference": "DOUBLE",
             "low": "DOUBLE", "high": "DOUBLE", "n": "BIGINT", "passed": "BOOLEAN"}]')) AS c
    FROM ${versions} WHERE (summary -> 'verdict') IS NOT NULL)
  SELECT version_id, span_id, state, verdict, c.name AS "check", c.slice, c.metric, c."current", c.candidate,
         c.difference, c.low, c.high, c.n, c.passed
  FROM judged;

-- What updates have lost against training from scratch: the live chain's score less the newest shadow's, span by span.
CREATE OR REPLACE VIEW drift AS
  SELECT c.span_id, c.version_id, s.version_id AS shadow, c.slice, c.protocol, c.metric, c.value AS chain_value,
         s.value AS shadow_value, c.value - s.value AS drift, c.n
  FROM ${metrics} c
  JOIN ${metrics} s USING (span_id, slice, protocol, metric)
  JOIN ${versions} v ON v.version_id = s.version_id
  LEFT JOIN ${spans} t ON t.span_id = c.span_id
  WHERE v.strategy = 'full_retrain' AND c.version_id <> s.version_id
    AND EXISTS (FROM ${versions} l WHERE l.parent = c.version_id AND l.span_id = c.span_id)
  ORDER BY t.start_us, c.slice, c.metric;

-- What each version is built on, itself included (depth 0): which interest files are in force as of it.
CREATE OR REPLACE VIEW version_chain AS SELECT version_id, ancestor, depth FROM ${version_chain};

CREATE OR REPLACE VIEW interactions AS
  SELECT span AS span_id, user_id, item_id, "timestamp", event_type, value, event_id, source, ingest_time
  FROM ${interactions};

CREATE OR REPLACE VIEW quarantine AS SELECT * FROM ${quarantine};

-- The ids of the current chain with their dense indices, which never move.
CREATE OR REPLACE VIEW users AS SELECT user_id, user_index, span AS first_span FROM ${users};
CREATE OR REPLACE VIEW items AS SELECT item_id, item_index, span AS first_span FROM ${items};

CREATE OR REPLACE VIEW sequences AS
  SELECT s.span AS span_id, u.user_id, s.user_index, s.items, s.timestamps, len(s.items) AS events, s.truncated
  FROM ${sequences} s JOIN users u USING (user_index);

-- Interests as each version wrote them: of the users in its span (of everybody, where a chain starts over).
CREATE OR REPLACE VIEW interest_history AS
  SELECT version_id, span_id, user_id, user_index, interest_id, born_span, active_span, support, norm, overlap,
         vector
  FROM ${interests};

-- All interests as of any version: SELECT * FROM interests_as_of('2017-09.1').
CREATE OR REPLACE MACRO interests_as_of(wanted) AS TABLE
  SELECT h.* EXCLUDE (version_id, span_id), h.span_id AS updated_span
  FROM interest_history h JOIN version_chain c ON c.ancestor = h.version_id
  WHERE c.version_id = wanted
  QUALIFY c.depth = min(c.depth) OVER (PARTITION BY h.user_index);

-- All interests as of the current version.
CREATE OR REPLACE VIEW interests AS
  SELECT h.* EXCLUDE (version_id, span_id), h.span_id AS updated_span
  FROM interest_history h JOIN version_chain c ON c.ancestor = h.version_id
  WHERE c.version_id IN (SELECT version_id FROM ${pointers} WHERE line = 'interests')
  QUALIFY c.depth = min(c.depth) OVER (PARTITION BY h.user_index);

-- K_u as each version wrote it: of the users in its span. Versions of earlier releases have no counts: theirs come from
-- their vectors.
CREATE OR REPLACE VIEW interest_count_history AS
  SELECT version_id, span_id, user_id, user_index, interests, distinct_interests, born, active FROM ${counts}
  UNION ALL BY NAME
  SELECT version_id, any_value(span_id) AS span_id, any_value(user_id) AS user_id, user_index, count(*) AS interests,
         -- files of earlier releases have no overlap: it is not known then
         CASE WHEN count(*) = 1 OR count(overlap) > 0 THEN count(*) FILTER (coalesce(overlap, 0) <= ${twin}) END
           AS distinct_interests,
         count(*) FILTER (born_span = span_id) AS born,
         (version_id, any_value(user_id)) IN (SELECT (version_id, user_id) FROM ${uncounted_changes}) AS active
  FROM ${uncounted} GROUP BY version_id, user_index;

-- K_u of all users as of any version: SELECT * FROM interest_counts_as_of('2017-09.1').
CREATE OR REPLACE MACRO interest_counts_as_of(wanted) AS TABLE
  SELECT h.user_id, h.user_index, h.interests, h.distinct_interests, h.span_id AS updated_span
  FROM interest_count_history h JOIN version_chain c ON c.ancestor = h.version_id
  WHERE c.version_id = wanted
  QUALIFY c.depth = min(c.depth) OVER (PARTITION BY h.user_index);

-- From which place of the current version's history to before which a count holds: until the next version that has the
-- user, or until a chain starts over, whose first version has everybody.
CREATE OR REPLACE VIEW interest_count_stretches AS
  WITH firsts AS (
    SELECT l.place, min(a.place) AS first_place
    FROM ${lineage} l JOIN version_chain c USING (version_id) JOIN ${lineage} a ON a.version_id = c.ancestor
    GROUP BY ALL),
  ends AS (
    SELECT l.version_id, l.place, coalesce(min(f.place), (SELECT max(place) + 1 FROM ${lineage})) AS until_place
    FROM ${lineage} l LEFT JOIN firsts f ON f.first_place > l.place
    GROUP BY ALL)
  SELECT user_id, user_index, interests, distinct_interests, born, active, place::BIGINT AS place,
         least(until_place, lead(place) OVER (PARTITION BY owner ORDER BY place))::BIGINT AS until_place
  FROM (SELECT h.*, h.user_index::UINTEGER AS owner, e.place::INTEGER AS place, e.until_place::INTEGER AS until_place
        FROM interest_count_history h JOIN ends e USING (version_id));  -- small keys: what is sorted is most of the cost

-- K_u of every user after every span of the current version's history; active: the user had events in the span. Stretches
-- are cut where a block of 16 places ends, and every piece that can be has a number, from its first place and the one after
-- its last. Places are joined by it alone: no place is compared in vain, nothing is sorted that is as large as spans times
-- users, and DuckDB sums the pieces of a number before it joins them. (The places of pieces are unnested and not joined,
-- as DuckDB takes a join for large and would make a table of the other side.)
CREATE OR REPLACE VIEW interest_counts AS
  WITH places AS (
    SELECT DISTINCT l.span_id, l.version_id, l.place
    FROM ${lineage} l JOIN version_chain c USING (version_id)),
  begun AS (SELECT *, unnest(range(place // 16 * 16, place + 1)) AS first FROM places),
  covered AS (SELECT *, first * 31 + unnest(range(place + 1, place // 16 * 16 + 17)) AS piece FROM begun),
  cut AS (SELECT *, unnest(range(place // 16 * 16, until_place, 16)) AS block FROM interest_count_stretches),
  pieces AS (SELECT *, greatest(place, block) * 31 + least(until_place, block + 16) AS piece FROM cut)
  SELECT p.span_id, p.version_id, h.user_id, h.interests, h.distinct_interests,
         CASE WHEN h.place = p.place THEN h.born ELSE 0 END AS born,
         h.place = p.place AND h.active AS active
  FROM pieces h JOIN covered p ON p.piece = h.piece;

-- How many users have how many interests after every span of the current version's history: interest_counts without the
-- users. Users are counted where a stretch begins and taken off where it ends, so that it costs what was written.
CREATE OR REPLACE VIEW interest_histogram AS
  WITH stretches AS MATERIALIZED (
    SELECT place, until_place, interests, distinct_interests, count(*) AS users,
           count(*) FILTER (active) AS active_users, sum(born) AS born
    FROM interest_count_stretches GROUP BY ALL),
  steps AS (
    SELECT place, interests, distinct_interests, users, active_users, born FROM stretches
    UNION ALL
    SELECT until_place, interests, distinct_interests, -users, 0, 0 FROM stretches),
  sums AS (
    SELECT place, interests, distinct_interests, sum(users) AS users, sum(active_users) AS active_users,
           sum(born) AS born
    FROM steps GROUP BY ALL)
  SELECT l.span_id, l.version_id, s.interests, s.distinct_interests, sum(s.users)::BIGINT AS users,
         coalesce(sum(s.active_users) FILTER (s.place = l.place), 0)::BIGINT AS active_users,
         coalesce(sum(s.born) FILTER (s.place = l.place), 0)::BIGINT AS born
  FROM ${lineage} l JOIN sums s ON s.place <= l.place
  WHERE l.version_id IN (SELECT version_id FROM version_chain)
  GROUP BY l.span_id, l.version_id, l.place, s.interests, s.distinct_interests
  HAVING sum(s.users) > 0 ORDER BY l.place, s.interests, s.distinct_interests;

-- What each span did to each interest: born, kept, trimmed, forgotten. clarity is the user's NID score (mean KL, low =
-- puzzled), residual the PIT length of a proposed interest's orthogonal part, drift 1 - cosine(before, after). reason is
-- why it was trimmed or forgotten: redundant (PIT), rested, merged, or beyond the budget.
CREATE OR REPLACE VIEW interest_changes AS
  SELECT version_id, span_id, user_id, interest_id, change, reason, clarity, residual, drift
  FROM ${changes};

-- What the score counts, as of the current version: how often and when a user had an item ([score] personal) ...
CREATE OR REPLACE VIEW user_items AS
  SELECT u.user_id, i.item_id, u.times, make_timestamp(u.first_us) AS first_time, make_timestamp(u.last_us) AS last_time
  FROM ${user_items} u JOIN version_chain c ON c.ancestor = u.version_id JOIN items i USING (item_index)
  WHERE c.version_id IN (SELECT version_id FROM ${pointers} WHERE line = 'interests')
  QUALIFY c.depth = min(c.depth) OVER (PARTITION BY u.user_index);

-- ... and what goes with what ([score] neighbours): pairs within ten steps, and shares of what was new to a user. They
-- are those of the newest counts of an item, and of the rows since that say what counts together with what.
CREATE OR REPLACE VIEW item_neighbours AS
  WITH line AS (
    SELECT ancestor AS version_id, depth FROM version_chain
    WHERE version_id IN (SELECT version_id FROM ${pointers} WHERE line = 'interests')),
  counted AS (
    SELECT n.item_index, n.neighbour_index, n.steps, n.taste, l.depth
    FROM ${neighbour_counts} n JOIN line l USING (version_id)
    QUALIFY l.depth = min(l.depth) OVER (PARTITION BY n.item_index)),
  since AS (
    SELECT c.* FROM ${neighbour_contexts} c JOIN line l USING (version_id)
    WHERE l.depth < (SELECT coalesce(min(depth), 2147483647) FROM counted)),
  later AS (
    SELECT version_id, kind, user_index, item_index, place, least(place, if(kind = 'steps', 10, 100)) AS earlier,
           least(place, if(kind = 'steps', 10, 20)) AS partners
    FROM since WHERE fresh),
  met AS (
    SELECT a.item_index AS earlier, b.item_index AS later, b.kind, if(b.kind = 'steps', 1, 1 / b.partners) AS share
    FROM (SELECT *, unnest(range(partners)) AS n FROM later) b JOIN since a USING (version_id, kind, user_index)
    WHERE a.place = b.place - 1 - (2 * b.n + 1) * b.earlier // (2 * b.partners) AND a.item_index <> b.item_index),
  pairs AS (
    SELECT item_index, neighbour_index, steps, taste FROM counted
    UNION ALL
    SELECT unnest([earlier, later]), unnest([later, earlier]), if(kind = 'steps', share, 0), if(kind = 'taste', share, 0)
    FROM met),
  sums AS (
    SELECT item_index, neighbour_index, sum(steps) AS steps, sum(taste) AS taste FROM pairs GROUP BY ALL)
  SELECT i.item_id, k.item_id AS neighbour_id, s.steps::FLOAT AS steps, s.taste::FLOAT AS taste
  FROM sums s JOIN items i USING (item_index) JOIN items k ON k.item_index = s.neighbour_index;

-- The weights of each version's score, and what they rest on: events of users that the version before had not learnt,
-- and the mean log loss of them before and after the fit (chance: of a score that knows nothing). shown is what may be
-- shown: everything, or only what is new to the user; strangers: what a user gets whom the version does not know.
CREATE OR REPLACE VIEW score_weights AS
  WITH sets AS (
    SELECT version_id, span_id, state, unnest(['everything', 'new', 'strangers']) AS shown, summary
    FROM ${versions} WHERE (summary -> 'score') IS NOT NULL),
  parts AS (SELECT * EXCLUDE (summary), summary -> 'score' -> shown AS part FROM sets),
  named AS (SELECT *, unnest(json_keys(part -> 'weights')) AS "column" FROM parts)
  SELECT version_id, span_id, named.state, shown, "column", (part -> 'weights' ->> "column")::DOUBLE AS weight,
         (part -> 'evidence' ->> 'events')::BIGINT AS events, (part -> 'evidence' ->> 'users')::BIGINT AS users,
         (part -> 'evidence' ->> 'before')::DOUBLE AS loss_before, (part -> 'evidence' ->> 'after')::DOUBLE AS loss_after,
         (part -> 'evidence' ->> 'chance')::DOUBLE AS loss_chance
  FROM named LEFT JOIN ${spans} t USING (span_id)
  ORDER BY t.start_us, length(version_id), version_id, shown;  -- the tenth attempt at a span comes after the ninth

-- Lists written by `imsr recommend --all` (variant default), and by the night if [recommend] wants them (variant nightly,
-- or the name given there). current: they are of the version that is live.
CREATE OR REPLACE VIEW recommendations AS
  SELECT version_id, user_id, rank, item_id, score, interest_id, reason,
         coalesce(nullif(regexp_extract(filename, '~([a-z0-9_]+)(@[0-9]+)?[.]parquet$$', 1), ''), 'default') AS variant,
         version_id IN (SELECT version_id FROM ${pointers} WHERE line = 'interests') AS current
  FROM ${recommendations};

-- The table that [items] metadata names, as it was when it was last taken.
CREATE OR REPLACE VIEW item_metadata AS SELECT * FROM ${item_metadata};

-- The table about users that [segments] names, as it was when it was last taken: the columns that are slices of metrics.
CREATE OR REPLACE VIEW user_segments AS SELECT * FROM ${user_segments};

-- What each interest stands for: the items nearest to it (rank 1 first; score = interest . item), by `imsr explain --all`.
CREATE OR REPLACE VIEW interest_items AS
  SELECT version_id, user_id, interest_id, rank, item_id, score FROM ${interest_items};

-- How distinct a user's interests are: overlap is the cosine to the nearest older interest of the same user (NULL for the
-- oldest); an interest with an overlap above 0.9 says nearly what another says already.
CREATE OR REPLACE VIEW interest_overlap AS
  WITH unit AS (SELECT user_id, interest_id, vector FROM interests)
  SELECT a.user_id, a.interest_id, max(list_cosine_similarity(a.vector, b.vector)) AS overlap
  FROM unit a LEFT JOIN unit b ON b.user_id = a.user_id AND b.interest_id < a.interest_id
  GROUP BY ALL;
