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

	exceptions document // of data.patrol.custom.waive; zero if there is none
	waives     breach
	breaches   *breachCounts

	routes   *recall[routed]
	needs    *recall[hinted]
	choosers choosers
}

// The documents that are asked for.
var (
	decisionRef = ast.MustParseRef("data.patrol.authz.decision")
	requestRef  = ast.MustParseRef("data.patrol.http.request")
	requestsRef = ast.MustParseRef("data.patrol.http.requests")
	hintsRef    = ast.MustParseRef("data.patrol.http.hints")
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
	b, err := src.parse()
	if err != nil {
		return err
	}
	s.waives = b.waives
	if s.catalog, err = checkData(ctx, b); err != nil {
		return err
	}
	s.names = nameTerms(s.catalog)
	if err := s.chooseFrom(b.data); err != nil {
		return err
	}
	if err := s.open(ctx, b.data); err != nil {
		return err
	}
	if err := s.compile(ctx, b); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.revision, s.digest = b.revision, src.Digest()
	return s.try(ctx)
}

// open puts the data into a store of our own, in the form that evaluation reads.
func (s *Snapshot) open(ctx context.Context, data map[string]any) error {
	v, err := ast.InterfaceToValue(data)
	if err != nil {
		return fmt.Errorf("read the data documents: %w", err)
	}
	settle(v)
	object, ok := v.(ast.Object)
	if !ok {
		return fmt.Errorf("read the data documents: %T is not an object", v)
	}
	s.documents.data = object
	s.store = inmem.NewFromASTObject(s.documents.data)
	s.txn, err = s.store.NewTransaction(ctx)
	return err
}

func (s *Snapshot) compile(ctx context.Context, b *bundle) error {
	capabilities, err := capabilitiesFor(b.capabilities)
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
	s.compiler.Compile(b.modules)
	if s.compiler.Failed() {
		return s.compiler.Errors
	}
	return nil
}

// enter prepares the documents that the server asks for, and what can be known of
// them beforehand.
func (s *Snapshot) enter(ctx context.Context) (err error) {
	asks := requestRef
	if len(s.compiler.GetRulesExact(requestsRef)) > 0 {
		asks = requestsRef
	}
	for _, ref := range []ast.Ref{decisionRef, asks} {
		if len(s.compiler.GetRulesExact(ref)) == 0 {
			return fmt.Errorf("it defines no %s, which the server asks for", ref)
		}
	}
	for _, d := range []struct {
		ref ast.Ref
		to  *document
	}{{decisionRef, &s.decision}, {asks, &s.request}, {hintsRef, &s.hints}} {
		if *d.to, err = s.prepare(d.ref); err != nil {
			return err
		}
	}
	if s.definesExceptions() {
		if s.exceptions, err = s.prepare(exceptionsRef); err != nil {
			return err
		}
	}
	if err := s.evaluateConstants(ctx); err != nil {
		return err
	}
	s.routes = newRecall[routed](partsOf(s.compiler, asks), s.recall)
	s.needs = newRecall[hinted](partsOf(s.compiler, hintsRef), s.recall)
	return s.loadMask(ctx)
}

// try asks the policy about a request of which nothing is known.
func (s *Snapshot) try(ctx context.Context) error {
	d, err := s.decide(ctx, noFacts)
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

// definesExceptions reports whether the policy has data.patrol.custom.waive, as rules or
// as data.
func (s *Snapshot) definesExceptions() bool {
	if len(s.compiler.GetRulesExact(exceptionsRef)) > 0 {
		return true
	}
	_, err := s.documents.data.Find(exceptionsRef[1:])
	return err == nil
}
