package bundles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patrol/policies/engine"
)

// Config holds the parts and settings of a [Delivery]. Source, Gate and Ledger are required.
type Config struct {
	Source   Source
	Gate     *Gate
	Ledger   Ledger
	Verifier *Verifier // the source's; what the ledger keeps is held against it as well
	// Sync is the interval at which the ledger is looked at for what other servers and operators
	// did.
	Sync time.Duration
	// StartTimeout is the time that the source may take at the start before what the ledger
	// keeps is used.
	StartTimeout time.Duration
	// PlanTrials is on how many inputs the compiled plan of a policy is held against OPA's
	// evaluator before it answers. 0: it never does.
	PlanTrials int
	Logger     *slog.Logger          // nil: slog.Default()
	Registerer prometheus.Registerer // nil: the metrics are nobody's
}

// Delivery brings policy from its source through the gate into force. It is safe
// for use by many goroutines.
type Delivery struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	engine  *engine.Engine

	mu         sync.Mutex // held while following the ledger
	began      *Bundle    // what the source held at the start
	ready      []*loaded  // what could be in force at once, the latest first; see keepReady
	unloadable string     // archive that could not be put in force, and when
	triedAt    time.Time

	state struct { // what is known, for [Delivery.Status]
		sync.Mutex
		active  State
		archive []byte
		changed chan struct{} // closed when another policy is in force
		source  SourceStatus
		held    []byte // archive of what the source holds
		syncErr string
	}
	reconsider chan struct{}
}

// loaded is a policy that could be in force at once.
type loaded struct {
	digest, archiveDigest string
	archive               []byte
	snapshot              *engine.Snapshot
	size                  int // bytes in its files
}

func newLoaded(b *Bundle, snapshot *engine.Snapshot) *loaded {
	l := &loaded{digest: b.Digest(), archiveDigest: ArchiveDigest(b.Archive), archive: b.Archive, snapshot: snapshot}
	for _, content := range b.Files {
		l.size += len(content)
	}
	return l
}

// The last policy in force is kept ready, so that a policy that proves bad is out of force at
// once when it is rolled back.
const (
	keptReady     = 4         // with the one in force
	keptReadySize = 512 << 10 // bytes in the files of one; what is larger would take too much memory
)

// keepReady notes that a policy is in force, or about to be. Others stay ready if they
// are small. d.mu must be held.
func (d *Delivery) keepReady(l *loaded) {
	kept := []*loaded{l}
	for _, other := range d.ready {
		if len(kept) < keptReady && other.size <= keptReadySize && (other.digest != l.digest || other.archiveDigest != l.archiveDigest) {
			kept = append(kept, other)
		}
	}
	d.ready = kept
}

// readyFor returns what is ready of what the ledger says is in force; nil if it must be
// loaded.
func (d *Delivery) readyFor(state State) *loaded {
	for _, l := range d.ready {
		if l.digest == state.Digest && l.archiveDigest == state.ArchiveDigest {
			return l
		}
	}
	return nil
}

// Status is a server's state of its policy.
type Status struct {
	Active State
	Source SourceStatus
	// SyncError says why this server does not follow the ledger; "" if it does.
	SyncError string
}

// SourceStatus is the state of a source.
type SourceStatus struct {
	Name      string
	Reached   bool
	CheckedAt time.Time
	Error     string // why it could not be reached or read
	// Pending is the policy in the source that is not in force: refused, or held back
	// because another is pinned. Nil if it is in force.
	Pending *Pending
}

// Pending is a bundle that is not in force.
type Pending struct {
	Digest   string
	Revision string
	Refused  bool // else it waits
}

// Begin finds the policy to start with, and puts it in force: what the source
// holds, unless another is pinned. If the source is down, or what it holds is
// refused, that is what was in force last, if it is from the same source; it goes through the gate again. The
// embedded bundle has passed it when the binary was made. Without any of these
// there is no policy, and the error says why.
func Begin(ctx context.Context, cfg Config) (*Delivery, error) {
	d := &Delivery{cfg: cfg, log: cfg.Logger, reconsider: make(chan struct{}, 1)}
	if d.log == nil {
		d.log = slog.Default()
	}
	d.state.changed = make(chan struct{})
	d.state.source.Name = cfg.Source.Name()
	var err error
	if d.metrics, err = newMetrics(cfg.Registerer, func() State { return d.Status().Active }); err != nil {
		return nil, err
	}
	state, err := cfg.Ledger.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("find out which policy was in force: %w", err)
	}
	first, err := d.first(ctx, state)
	if err != nil {
		return nil, err
	}
	d.engine = engine.New(first.snapshot)
	if err := d.metrics.watch(cfg.Registerer, d.engine); err != nil {
		return nil, err
	}
	if state, err = cfg.Ledger.State(ctx); err != nil {
		return nil, fmt.Errorf("find out which policy is in force: %w", err)
	}
	d.keepReady(first)
	d.inForce(state, first.archive)
	// Another server may have been faster.
	return d, d.Sync(ctx)
}

// first returns the policy to start with. What comes from the source is in the
// ledger then.
func (d *Delivery) first(ctx context.Context, state State) (*loaded, error) {
	within, cancel := context.WithTimeout(ctx, d.cfg.StartTimeout)
	b, sourceErr := d.cfg.Source.Next(within)
	cancel()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	d.heard(ctx, b, sourceErr)
	d.began = b
	if b != nil && state.Pinned && b.Digest() != state.Digest {
		d.setPending(&Pending{Digest: b.Digest(), Revision: b.Revision()})
	}
	if b != nil && !state.held(b.Digest()) {
		candidate, result, err := d.admit(ctx, b, state)
		if err != nil {
			return nil, err
		}
		if candidate != nil {
			err := d.cfg.Ledger.Activate(ctx, recordOf(b, candidate.snapshot.Revision(), result), b.Archive)
			if err == nil {
				d.metrics.candidates.WithLabelValues(outcomeActivated).Inc()
			}
			if !errors.Is(err, ErrPinned) {
				return candidate, err
			}
		} else {
			sourceErr = asError(b.Name, result)
			if err := d.refuse(ctx, recordOf(b, "", result)); err != nil {
				return nil, err
			}
		}
	}
	if state.Digest == "" {
		if sourceErr == nil {
			sourceErr = errors.New("there is none")
		}
		return nil, fmt.Errorf("there is no policy to begin with: %w", sourceErr)
	}
	// A new source means a new policy: to go on with the old one could
	// allow what the new one is there to deny.
	if sourceErr != nil && !state.Pinned && state.Source != d.cfg.Source.Name() {
		return nil, fmt.Errorf("there is no policy to begin with (what was in force last came from another source, %s): %w", state.Source, sourceErr)
	}
	kept, err := d.kept(ctx, state, true)
	if err != nil {
		return nil, errors.Join(sourceErr, fmt.Errorf("the policy that was in force last cannot be used either: %w", err))
	}
	if sourceErr != nil {
		d.log.ErrorContext(ctx, "the policy that was in force last is in force again, because the source has none to use",
			"source", d.cfg.Source.Name(), "revision", state.Revision, "error", sourceErr)
	}
	return kept, nil
}

// admit lets a bundle through the gate and makes it ready; active is what is in
// force, or was last. It is nil if it was refused; the result says why. The error is not
// about the bundle.
func (d *Delivery) admit(ctx context.Context, b *Bundle, active State) (*loaded, Result, error) {
	result := Result{Passed: true, Findings: []engine.Finding{}, Warnings: []engine.Finding{}}
	var err error
	if !isEmbedded(b.Archive) {
		result, err = d.cfg.Gate.check(ctx, b.Source, b.Digest() == active.Digest)
	}
	if err == nil && result.Passed && b.Digest() != active.Digest && active.Digest != "" {
		result, err = d.cfg.Gate.replay(ctx, b.Source, d.base(ctx, active), result)
	}
	if err != nil || !result.Passed {
		return nil, result, err
	}
	snapshot, err := engine.Load(ctx, d.cfg.Gate.Permit(b.Source))
	if err != nil {
		return nil, Result{}, fmt.Errorf("load the policy: %w", err)
	}
	return newLoaded(b, snapshot), result, nil
}

// base returns the policy that is in force, for the gate to compare with; nil if
// what is kept of it is of no use.
func (d *Delivery) base(ctx context.Context, active State) *engine.Source {
	b, err := d.unpackKept(ctx, active, nil)
	if err != nil {
		d.log.WarnContext(ctx, "a candidate cannot be compared with the policy in force, and is with what was decided",
			"revision", active.Revision, "error", err)
		return nil
	}
	return &b.Source
}

// kept loads what the ledger keeps. It is held against its digest and its
// signature, and on demand goes through the gate as if it were new.
func (d *Delivery) kept(ctx context.Context, state State, again bool) (*loaded, error) {
	b, err := d.unpackKept(ctx, state, d.cfg.Verifier)
	if err != nil {
		return nil, err
	}
	if again {
		l, result, err := d.admit(ctx, b, state)
		if err == nil && l == nil {
			err = asError(b.Name, result)
		}
		return l, err
	}
	snapshot, err := engine.Load(ctx, d.cfg.Gate.Permit(b.Source))
	if err != nil {
		return nil, err
	}
	return newLoaded(b, snapshot), nil
}

// unpackKept reads what the ledger keeps of a revision, if that is still what it was,
// and its signature unless verifier is nil.
func (d *Delivery) unpackKept(ctx context.Context, state State, verifier *Verifier) (*Bundle, error) {
	archive, err := d.cfg.Ledger.Archive(ctx, state.Digest)
	if err != nil {
		return nil, fmt.Errorf("read revision %s: %w", state.Revision, err)
	}
	return unpackAs(ctx, state, archive, verifier)
}

// unpackAs reads an archive that is to be of the revision.
func unpackAs(ctx context.Context, state State, archive []byte, verifier *Verifier) (*Bundle, error) {
	if digest := ArchiveDigest(archive); digest != state.ArchiveDigest {
		return nil, fmt.Errorf("revision %s is not what was kept: its archive is %s and should be %s", state.Revision, digest, state.ArchiveDigest)
	}
	if isEmbedded(archive) {
		verifier = nil
	}
	b, err := Unpack(ctx, state.Source, archive, verifier)
	if err != nil {
		return nil, err
	}
	if digest := b.Digest(); digest != state.Digest {
		return nil, fmt.Errorf("revision %s is not what was kept: its digest is %s and should be %s", state.Revision, digest, state.Digest)
	}
	return b, nil
}

// Permit returns a bundle with what this server lets policies waive.
func (d *Delivery) Permit(src engine.Source) engine.Source { return d.cfg.Gate.Permit(src) }

// Usable reports what would keep this server from putting a revision in force.
func (d *Delivery) Usable(ctx context.Context, r Record, archive []byte) error {
	return Usable(ctx, r, archive, d.cfg.Verifier)
}

// Usable reports what would keep a server with the verifier from putting a revision in
// force: an archive that is not what it is said to be, a signature that is not good there,
// a policy that cannot be loaded.
func Usable(ctx context.Context, r Record, archive []byte, v *Verifier) error {
	b, err := unpackAs(ctx, State{Digest: r.Digest, ArchiveDigest: r.ArchiveDigest, Revision: r.Revision, Source: r.Source}, archive, v)
	if err == nil {
		_, err = engine.Load(ctx, b.Source)
	}
	return err
}

// isEmbedded reports whether an archive is that of the bundle in the binary,
// whatever its source is said to be.
func isEmbedded(archive []byte) bool {
	own, err := embeddedDigest()
	return err == nil && own == ArchiveDigest(archive)
}

var embeddedDigest = sync.OnceValues(func() (string, error) {
	own, err := Read(context.Background(), "", nil)
	if err != nil {
		return "", err
	}
	return ArchiveDigest(own.Archive), nil
})

func recordOf(b *Bundle, revision string, result Result) Record {
	if revision == "" {
		revision = b.Revision()
	}
	return Record{
		Digest: b.Digest(), ArchiveDigest: ArchiveDigest(b.Archive), Revision: revision, Source: b.Name, SignedBy: b.SignedBy, Result: result,
	}
}

// asError returns the reason for which a bundle was refused.
func asError(name string, r Result) error {
	errs := make([]error, len(r.Findings))
	for i, f := range r.Findings {
		errs[i] = errors.New(f.String())
	}
	return fmt.Errorf("policy %s is refused: %w", name, errors.Join(errs...))
}

// Engine holds the policy in force.
func (d *Delivery) Engine() *engine.Engine { return d.engine }

// Status returns what this server knows of its policy.
func (d *Delivery) Status() Status {
	d.state.Lock()
	defer d.state.Unlock()
	return Status{Active: d.state.active, Source: d.state.source, SyncError: d.state.syncErr}
}

// Archive returns the bundle in force as an archive, its digest, and what is
// closed when another is in force.
func (d *Delivery) Archive() (archive []byte, digest string, changed <-chan struct{}) {
	d.state.Lock()
	defer d.state.Unlock()
	return d.state.archive, d.state.active.ArchiveDigest, d.state.changed
}

func (d *Delivery) inForce(state State, archive []byte) {
	d.state.Lock()
	defer d.state.Unlock()
	d.state.active, d.state.archive = state, archive
	if p := d.state.source.Pending; p != nil && p.Digest == state.Digest {
		d.state.source.Pending = nil
	}
	close(d.state.changed)
	d.state.changed = make(chan struct{})
}

// Sync follows the ledger: what is in force there is in force here when it
// returns. It is called every so often by [Delivery.Run], and by who changed the
// ledger.
func (d *Delivery) Sync(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.follow(ctx)
	d.state.Lock()
	defer d.state.Unlock()
	d.state.syncErr = ""
	if err != nil {
		d.state.syncErr = err.Error()
	}
	return err
}

// tryAgainAfter is the pause after a revision of the ledger could not be loaded.
const tryAgainAfter = 30 * time.Second

func (d *Delivery) follow(ctx context.Context) error {
	state, err := d.cfg.Ledger.State(ctx)
	if err != nil {
		return fmt.Errorf("find out which policy is in force: %w", err)
	}
	active := d.Status().Active
	// That the pin of a promotion has ended is no reason to look at what may be behind.
	if state.Resumed != active.Resumed {
		select {
		case d.reconsider <- struct{}{}:
		default:
		}
	}
	if state.Digest == active.Digest && state.ArchiveDigest == active.ArchiveDigest || state.Digest == "" {
		if state.Digest != "" {
			d.state.Lock()
			d.state.active = state
			d.state.Unlock()
		}
		return nil
	}
	next := d.readyFor(state)
	if next == nil {
		if d.unloadable == state.ArchiveDigest && time.Since(d.triedAt) < tryAgainAfter {
			return fmt.Errorf("revision %s cannot be put in force here; see the log", state.Revision)
		}
		if next, err = d.kept(ctx, state, false); err != nil {
			d.unloadable, d.triedAt = state.ArchiveDigest, time.Now()
			d.log.ErrorContext(ctx, "the policy that is in force elsewhere cannot be put in force here",
				"revision", state.Revision, "digest", state.Digest, "error", err)
			return err
		}
	}
	d.keepReady(next)
	d.unloadable = ""
	old := d.engine.Swap(next.snapshot)
	d.metrics.swaps.Inc()
	d.inForce(state, next.archive)
	d.log.InfoContext(ctx, "policy in force", "revision", state.Revision, "digest", state.Digest, "source", state.Source,
		"pinned", state.Pinned, "before", old.Revision())
	return nil
}
