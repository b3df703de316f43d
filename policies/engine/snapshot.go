package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"patrol/models"
	"patrol/policies/engine/plan"
)

// DefaultTimeout bounds an evaluation unless [WithTimeout] says otherwise. One of
// the default policy takes some tens of microseconds; the rest is room for a
// container whose CPU quota is used up, which stands still for 100 ms at a time.
const DefaultTimeout = 250 * time.Millisecond

// Snapshot is one policy, compiled, checked and immutable. It is safe for use by
// many goroutines. Every answer of one snapshot comes from the same policy.
type Snapshot struct {
	revision string
	catalog  models.Catalog
	names    map[string]*ast.Term // of the catalog
	timeout  time.Duration
	recall   int

	compiler  *ast.Compiler
	documents documents
	store     storage.Store
	txn       storage.Transaction // for reading, shared by all evaluations: nothing ever writes

	decision, hints document
	request         document // of data.patrol.http.requests, else request
	mask            maskDocument
	constants       []constant

	digest   string // of what the policy consists of
	standing *standing
	heavy    bool // the data are so large that a look at the clock is little beside one at them

	exceptions document   // of data.patrol.custom.waive; zero if there is none
	denials    []document // of data.patrol.custom.deny and reason, as far as there are any
	waives     breach
	breaches   *breachCounts

	routes   *recall[routed]
	needs    *recall[hinted]
	choosers choosers
	reads    Reads
	variable []string // of client, context and http, those that the rules can read; sorted
}

// The documents that are asked for.
var (
	DecisionRef = ast.MustParseRef("data.patrol.authz.decision")
	RequestRef  = ast.MustParseRef("data.patrol.http.request")
	RequestsRef = ast.MustParseRef("data.patrol.http.requests")
	HintsRef    = ast.MustParseRef("data.patrol.http.hints")
)

// Option changes how a policy is loaded.
type Option func(*Snapshot)

// WithTimeout bounds each evaluation to d, which must be positive.
func WithTimeout(d time.Duration) Option { return func(s *Snapshot) { s.timeout = d } }

// WithRecall has n proxied requests remembered per document, so that the policy
// need not be asked about them again; 0: none.
func WithRecall(n int) Option { return func(s *Snapshot) { s.recall = n } }

// Load compiles a policy and checks all that can be checked before the first
// request: strict compilation under the enforced capabilities, the types of
// input, the data documents against their schemas and against each other, that
// the entrypoints exist, and that a request about which nothing is known is
// denied. Errors name file and line, or the place in the data.
func Load(ctx context.Context, src Source, opts ...Option) (*Snapshot, error) {
	s := &Snapshot{timeout: DefaultTimeout, recall: DefaultRecall, standing: new(standing), breaches: new(breachCounts)}
	for _, opt := range opts {
		opt(s)
	}
	if s.recall < 0 {
		return nil, fmt.Errorf("the number of requests to remember must not be negative, as %d is", s.recall)
	}
	if s.timeout <= 0 {
		return nil, errTimeoutOption(s.timeout)
	}
	if err := s.load(ctx, src); err != nil {
		return nil, fmt.Errorf("policy %s: %w", src.Name, err)
	}
	return s, nil
}

func errTimeoutOption(d time.Duration) error {
	return fmt.Errorf("the evaluation timeout must be positive, not %s", d)
}

func (s *Snapshot) load(ctx context.Context, src Source) error {
	b, err := src.Parse()
	if err != nil {
		return err
	}
	d := &Draft{s, b}
	if err := d.ReadData(ctx); err != nil {
		return err
	}
	s.names = nameTerms(s.catalog)
	if err := s.chooseFrom(b.Data); err != nil {
		return err
	}
	if err := d.OpenData(ctx); err != nil {
		return err
	}
	if err := d.Compile(ctx); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.revision, s.digest = b.Revision, src.Digest()
	return s.try(ctx)
}

// Draft is a policy that is loaded step by step, by checks that go on after an error. The
// steps are those of [Load], in the order of the methods.
type Draft struct {
	snapshot *Snapshot
	bundle   *Bundle
}

// NewDraft begins a policy.
func NewDraft(b *Bundle, opts ...Option) (*Draft, error) {
	s := &Snapshot{timeout: DefaultTimeout, revision: b.Revision, breaches: new(breachCounts), waives: b.waives}
	for _, opt := range opts {
		opt(s)
	}
	if s.timeout <= 0 {
		return nil, errTimeoutOption(s.timeout)
	}
	return &Draft{s, b}, nil
}

// ReadData holds the data documents against their schemas and against each other.
func (d *Draft) ReadData(ctx context.Context) (err error) {
	d.snapshot.waives = d.bundle.waives
	d.snapshot.catalog, err = CheckData(ctx, d.bundle)
	return err
}

// OpenData prepares the data for evaluation. No later step works without it.
func (d *Draft) OpenData(ctx context.Context) error { return d.snapshot.open(ctx, d.bundle.Data) }

// Opened reports whether OpenData got as far as to let the other steps work.
func (d *Draft) Opened() bool { return d.snapshot.store != nil }

// Compile compiles the modules.
func (d *Draft) Compile(ctx context.Context) error { return d.snapshot.compile(ctx, d.bundle) }

// Enter prepares the documents that the server asks for.
func (d *Draft) Enter(ctx context.Context) error { return d.snapshot.enter(ctx) }

// Try asks about a request of which nothing is known, and returns the policy if it denies it.
func (d *Draft) Try(ctx context.Context) (*Snapshot, error) {
	return d.snapshot, d.snapshot.try(ctx)
}

// Recompile compiles other modules on the data of s, and keeps nothing of it.
func (s *Snapshot) Recompile(ctx context.Context, b *Bundle) error {
	again := &Snapshot{store: s.store, txn: s.txn}
	return again.compile(ctx, b)
}

// open puts the data into a store of our own, in the form that evaluation reads.
func (s *Snapshot) open(ctx context.Context, data map[string]any) error {
	v, err := ast.InterfaceToValue(data)
	if err != nil {
		return fmt.Errorf("read the data documents: %w", err)
	}
	plan.Settle(v)
	object, ok := v.(ast.Object)
	if !ok {
		return fmt.Errorf("read the data documents: %T is not an object", v)
	}
	s.documents.data = object
	s.heavy = plan.Weigh(ast.NewTerm(object), 0) > 16*heavy
	s.store = inmem.NewFromASTObject(s.documents.data)
	s.txn, err = s.store.NewTransaction(ctx)
	return err
}

func (s *Snapshot) compile(ctx context.Context, b *Bundle) error {
	return s.compileWith(ctx, b, Weigh)
}

func (s *Snapshot) compileWith(ctx context.Context, b *Bundle, prepare func(*ast.Compiler) *ast.Compiler) error {
	capabilities, err := CapabilitiesFor(b.Capabilities)
	if err != nil {
		return err
	}
	schemas, err := schemaSet()
	if err != nil {
		return err
	}
	s.compiler = ast.NewCompiler().
		WithCapabilities(capabilities).
		WithStrict(true).
		WithSchemas(schemas).
		WithUseTypeCheckAnnotations(true).
		WithPathConflictsCheck(storage.NonEmpty(ctx, s.store, s.txn)).
		WithDefaultRegoVersion(ast.RegoV1)
	prepare(s.compiler)
	s.compiler.Compile(b.Modules)
	if s.compiler.Failed() {
		return s.compiler.Errors
	}
	return nil
}

// enter prepares the documents that the server asks for, and what can be known of
// them beforehand.
func (s *Snapshot) enter(ctx context.Context) (err error) {
	asks := RequestRef
	if len(s.compiler.GetRulesExact(RequestsRef)) > 0 {
		asks = RequestsRef
	}
	for _, ref := range []ast.Ref{DecisionRef, asks} {
		if len(s.compiler.GetRulesExact(ref)) == 0 {
			return fmt.Errorf("it defines no %s, which the server asks for", ref)
		}
	}
	for _, d := range []struct {
		ref ast.Ref
		to  *document
	}{{DecisionRef, &s.decision}, {asks, &s.request}, {HintsRef, &s.hints}} {
		if *d.to, err = s.prepare(d.ref); err != nil {
			return err
		}
	}
	if s.DefinesExceptions() {
		if s.exceptions, err = s.prepare(ExceptionsRef); err != nil {
			return err
		}
	}
	for _, name := range []string{"deny", "reason"} {
		ref := CustomPackage.Append(ast.StringTerm(name))
		if _, err := s.documents.data.Find(ref[1:]); err != nil && len(s.compiler.GetRules(ref)) == 0 {
			continue
		}
		d, err := s.prepare(ref)
		if err != nil {
			return err
		}
		s.denials = append(s.denials, d)
	}
	if err := s.evaluateConstants(ctx); err != nil {
		return err
	}
	s.routes = newRecall[routed](partsOf(s.compiler, asks), s.recall)
	s.reads = readsOf(s.compiler, DecisionRef, ExceptionsRef)
	s.variable = variableParts(s.compiler, DecisionRef, ExceptionsRef)
	s.needs = newRecall[hinted](partsOf(s.compiler, HintsRef), s.recall)
	return s.loadMask(ctx)
}

// try asks the policy about a request of which nothing is known.
func (s *Snapshot) try(ctx context.Context) error {
	d, err := s.DecideInput(ctx, noFacts)
	_, breached := errors.AsType[*BreachError](err)
	switch {
	case breached:
		return errors.New("it allows a request about which nothing is known")
	case err != nil:
		return fmt.Errorf("it does not deny a request about which nothing is known: %w", err)
	case d.Allowed:
		return errors.New("it allows a request about which nothing is known")
	}
	return nil
}

// Revision identifies the policy: what its manifest says, else a digest of its
// files.
func (s *Snapshot) Revision() string { return s.revision }

// Catalog returns what can be asked for and granted. It is shared: callers must
// not change it.
func (s *Snapshot) Catalog() models.Catalog { return s.catalog }

// DefinesExceptions reports whether the policy has data.patrol.custom.waive, as rules or
// as data.
func (s *Snapshot) DefinesExceptions() bool {
	if len(s.compiler.GetRulesExact(ExceptionsRef)) > 0 {
		return true
	}
	_, err := s.documents.data.Find(ExceptionsRef[1:])
	return err == nil
}

// Compiler returns the compiled modules, which callers must not change.
func (s *Snapshot) Compiler() *ast.Compiler { return s.compiler }

// Timeout bounds each evaluation.
func (s *Snapshot) Timeout() time.Duration { return s.timeout }
