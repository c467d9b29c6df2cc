/*
 * The ledger of one card as a model: issue, claim, store, confirm, the same request again, a crash between any two
 * steps, replicas that work at once, and a failover to a standby that has what was shipped. spin explores every order.
 *
 *   -DFENCE   an intdatag belongs to the server that issued it
 *   -DSYNC    a commit is acknowledged once the standby has it (durability: 'replicated')
 *   -DONE     one server, and no failover
 *   -DLATE=n  a simulation's failover comes later (all orders are there without it, but chance takes the early ones)
 *
 * Simulated (spin -n), it prints each step with what came of it, and the card's PIN: `model.test.ts` plays that to the stores.
 *
 * Two requests (PIN 1 and PIN 2) answer one intdatag; each may come twice. Invariants, checked where they could break:
 *   once      no intdatag is accepted (204) for two different PINs
 *   durable   what was acknowledged is on the server that serves (asked for with -DDURABLE)
 */
#define OPEN 0
#define CLAIMED 1
#define SPENT 2

#ifdef FENCE
#define OURS (db[primary].issuer == primary)
#else
#define OURS true
#endif

typedef Server {
  byte state;      /* of the intdatag */
  byte claimant;   /* whose request claimed it: PIN 1 or 2 */
  byte issuer;     /* which instance issued it */
  byte sequence;   /* acceptances so far */
  byte pin;        /* the card's PIN, 0: none */
  byte stored;     /* the sequence that the PIN was stored with */
};

Server db[2];
byte primary = 0;
bool accepted1 = false;
bool accepted2 = false;
byte acknowledged = 0;   /* the PIN of the last 204 */
bool failed = false;

inline ship() {
  db[1].state = db[0].state; db[1].claimant = db[0].claimant; db[1].issuer = db[0].issuer;
  db[1].sequence = db[0].sequence; db[1].pin = db[0].pin; db[1].stored = db[0].stored;
}

/* Each write is one atomic statement; with SYNC it is acknowledged once it is shipped. */
inline committed() {
#ifdef SYNC
  if :: primary == 0 -> ship() :: else fi
#else
  skip
#endif
}

proctype Replica(byte pin) {
  byte sequence = 0;
  byte tries = 0;
  bool mine = false;
again:
  tries++;
  mine = false;
  atomic {
    if
    :: db[primary].state == OPEN && OURS ->
       db[primary].state = CLAIMED;
       db[primary].claimant = pin;
       db[primary].sequence++;
       sequence = db[primary].sequence;
       mine = true;
       committed();
       printf("step claim %d %d claimed %d\n", _pid, pin, db[primary].pin)
    :: db[primary].state == CLAIMED && db[primary].claimant == pin ->
       mine = true;
       sequence = db[primary].sequence;
       printf("step claim %d %d claimed %d\n", _pid, pin, db[primary].pin)
    :: db[primary].state == SPENT && db[primary].claimant == pin -> printf("step claim %d %d replayed %d\n", _pid, pin, db[primary].pin); goto answered
    :: else -> printf("step claim %d %d refused %d\n", _pid, pin, db[primary].pin); goto refused
    fi
  }
  /* store: never over a higher sequence */
  atomic {
    if
    :: mine && db[primary].stored <= sequence ->
       db[primary].pin = pin;
       db[primary].stored = sequence;
       committed()
    :: else -> skip
    fi;
    printf("step store %d %d done %d\n", _pid, pin, db[primary].pin)
  }
  /* confirm: where the claim is not there (any more), nothing is acknowledged */
  atomic {
    if
    :: db[primary].claimant == pin && (db[primary].state == CLAIMED || db[primary].state == SPENT) ->
       db[primary].state = SPENT;
       committed();
       printf("step confirm %d %d accepted %d\n", _pid, pin, db[primary].pin)
    :: else -> printf("step confirm %d %d refused %d\n", _pid, pin, db[primary].pin); goto refused
    fi
  }
answered:
  atomic {
    acknowledged = pin;
    if :: pin == 1 -> accepted1 = true :: else -> accepted2 = true fi;
    assert(!(accepted1 && accepted2))
  }
  /* The answer is lost, and the request comes again; or the process was killed and another one takes it. */
  if
  :: tries < 2 -> goto again
  :: true -> skip
  fi;
refused:
  skip
}

/* Asynchronous replication: what the primary has is shipped now and then. */
proctype Wal() {
  do
  :: atomic { primary == 0 -> ship(); printf("step ship %d 0 done %d\n", _pid, db[primary].pin) }
  :: failed -> break
  od
}

proctype Failover() {
#ifdef LATE
  byte wait = LATE;
  do :: atomic { wait > 0 -> wait-- } :: wait == 0 -> break od;
#endif
  atomic {
    primary = 1;
    failed = true;
    printf("step failover %d 0 done %d\n", _pid, db[primary].pin);
#ifdef DURABLE
    assert(acknowledged == 0 || db[1].pin == acknowledged)
#endif
  }
}

init {
  atomic {
    db[0].issuer = 0;
    db[0].state = OPEN;
    ship();
    run Replica(1);
    run Replica(2);
#ifdef ONE
    /* Each request at two replicas at once. */
    run Replica(1);
    run Replica(2)
#else
    run Wal();
    run Failover()
#endif
  }
}
