"""Every command of `imsr`, in the order in which its help shows them."""

from __future__ import annotations

from flows.lazy import Entry

START, WORK, CARE, LOOK = "Start", "Work", "Care", "Look"

#: Every command: name, place and panel. A command's module is imported when it runs.
COMMANDS = (
    Entry("demo", "demo:demo", START),
    Entry("init", "data:init", START),
    Entry("ingest", "data:ingest_files", WORK),
    Entry("withdraw", "data:withdraw_files", WORK),
    Entry("stream", "stream:stream", WORK, reports=False),
    Entry("tune", "tune:tune", WORK),
    Entry("run", "runs:run", WORK),
    Entry("backfill", "backfill:backfill", WORK),
    Entry("restate", "restate:restate", WORK),
    Entry("nightly", "serve:nightly", WORK),
    Entry("serve", "serve:serve", WORK, reports=False),
    Entry("promote", "promotion:promote_version", WORK),
    Entry("rollback", "promotion:rollback_version", WORK),
    Entry("refresh", "refresh:refresh", WORK),
    Entry("recommend", "recommend:recommend", WORK),
    Entry("export", "export:export", WORK),
    Entry("api", "api:api", WORK, reports=False),
    Entry("task", "tasks:app", WORK),
    Entry("forget", "care:forget", CARE),
    Entry("prune", "care:prune", CARE),
    Entry("doctor", "care:doctor", CARE),
    Entry("alerts", "alerts:app", CARE),
    Entry("plan", "plan:plan", LOOK),
    Entry("status", "inspect:status", LOOK),
    Entry("versions", "inspect:versions", LOOK),
    Entry("explain", "explain:explain", LOOK),
    Entry("report", "report:report", LOOK),
    Entry("compare", "promotion:compare_versions", LOOK),
    Entry("metrics", "metrics:metrics", LOOK, reports=False),
    Entry("sql", "sql:sql", LOOK),
    Entry("bench", "bench:bench", LOOK),
    Entry("views", "sql:views", LOOK),
)
