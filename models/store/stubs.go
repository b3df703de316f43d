package store

import (
	"context"
	"time"

	"patrol/models"
)

func Open(ctx context.Context, c Config) (*Store, error)                 { return nil, errStub }
func (s *Store) Migrate(ctx context.Context) (from, to int64, err error) { return 0, 0, errStub }
func (s *Store) CheckSchema(ctx context.Context) error                   { return errStub }
func (s *Store) Close() error                                            { return errStub }
func (s *Store) Ping(ctx context.Context) error                          { return errStub }
func (s *Store) OnChange(fn func([]Change))                              {}

func (s *Store) PAT(ctx context.Context, id string) (*models.PAT, error)       { return nil, errStub }
func (s *Store) User(ctx context.Context, id string) (*models.User, error)     { return nil, errStub }
func (s *Store) Domain(ctx context.Context, id string) (*models.Domain, error) { return nil, errStub }
func (s *Store) Membership(ctx context.Context, userID, domain string) (*models.Membership, error) {
	return nil, errStub
}

func (s *Store) LastChange(ctx context.Context) (int64, error) { return 0, errStub }
func (s *Store) Changes(ctx context.Context, after int64, limit int) (changes []Change, complete bool, err error) {
	return nil, false, errStub
}
func (s *Store) DataVersion(ctx context.Context) (v int64, ok bool, err error) {
	return 0, false, errStub
}
func (s *Store) PruneChanges(ctx context.Context, olderThan time.Duration) error { return errStub }

func (s *Store) CreateUser(ctx context.Context, by models.Actor, u models.User) (models.User, error) {
	return u, errStub
}
func (s *Store) UpdateUser(ctx context.Context, by models.Actor, id string, p UserPatch) (models.User, error) {
	return models.User{}, errStub
}
func (s *Store) UserByEmail(ctx context.Context, email string) (*models.User, error) {
	return nil, errStub
}
func (s *Store) Users(ctx context.Context, f UserFilter, p Page) ([]models.User, string, error) {
	return nil, "", errStub
}
func (s *Store) CountUsers(ctx context.Context) (int64, error) { return 0, errStub }
func (s *Store) CreateFirstAdmin(ctx context.Context, by models.Actor, u models.User) (models.User, error) {
	return u, errStub
}
func (s *Store) CreateDomain(ctx context.Context, by models.Actor, d models.Domain) (models.Domain, error) {
	return d, errStub
}
func (s *Store) UpdateDomain(ctx context.Context, by models.Actor, id string, p DomainPatch) (models.Domain, error) {
	return models.Domain{}, errStub
}
func (s *Store) Domains(ctx context.Context, f DomainFilter, p Page) ([]models.Domain, string, error) {
	return nil, "", errStub
}
func (s *Store) SetMember(ctx context.Context, by models.Actor, m models.Membership) (created bool, err error) {
	return false, errStub
}
func (s *Store) RemoveMember(ctx context.Context, by models.Actor, userID, domain string) error {
	return errStub
}
func (s *Store) Members(ctx context.Context, domain string, p Page) ([]Member, string, error) {
	return nil, "", errStub
}
func (s *Store) Memberships(ctx context.Context, userID string) ([]models.Membership, error) {
	return nil, errStub
}

func (s *Store) CreatePAT(ctx context.Context, by models.Actor, p models.PAT) (models.PAT, error) {
	return p, errStub
}
func (s *Store) PATOf(ctx context.Context, userID, id string) (*models.PAT, error) {
	return nil, errStub
}
func (s *Store) PATs(ctx context.Context, f PATFilter, p Page) ([]models.PAT, string, error) {
	return nil, "", errStub
}
func (s *Store) UpdatePAT(ctx context.Context, by models.Actor, userID, id string, p PATPatch) (models.PAT, error) {
	return models.PAT{}, errStub
}
func (s *Store) DeletePAT(ctx context.Context, by models.Actor, userID, id string) error {
	return errStub
}
func (s *Store) RevokePAT(ctx context.Context, by models.Actor, userID, id string) (models.PAT, error) {
	return models.PAT{}, errStub
}
func (s *Store) RevokeAll(ctx context.Context, by models.Actor, userID string) (int, error) {
	return 0, errStub
}
func (s *Store) RotatePAT(ctx context.Context, by models.Actor, userID, id string, next models.PAT, grace time.Duration) (models.PAT, error) {
	return next, errStub
}
func (s *Store) AddScope(ctx context.Context, by models.Actor, userID, id string, sc models.Scope) (models.PAT, error) {
	return models.PAT{}, errStub
}
func (s *Store) RemoveScope(ctx context.Context, by models.Actor, userID, id, scopeID string) (models.PAT, error) {
	return models.PAT{}, errStub
}
func (s *Store) RecordUses(ctx context.Context, uses []Use) error { return errStub }
func (s *Store) KeyIDs(ctx context.Context) ([]string, error)     { return nil, errStub }

func (s *Store) Audit(ctx context.Context, by models.Actor, action, subject string, detail map[string]string) error {
	return errStub
}
func (s *Store) AuditEvents(ctx context.Context, f AuditFilter, p Page) ([]AuditEvent, string, error) {
	return nil, "", errStub
}

func (s *Store) Sessions() *SessionStore { return nil }

// SessionUserKey is the key of the session's data under which the id of the
// signed-in user is kept: the store reads it from every session that it commits.
const SessionUserKey = "user_id"

func (s *SessionStore) Find(token string) ([]byte, bool, error)          { return nil, false, errStub }
func (s *SessionStore) Commit(token string, b []byte, e time.Time) error { return errStub }
func (s *SessionStore) Delete(token string) error                        { return errStub }
func (s *SessionStore) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	return nil, false, errStub
}
func (s *SessionStore) CommitCtx(ctx context.Context, token string, b []byte, e time.Time) error {
	return errStub
}
func (s *SessionStore) DeleteCtx(ctx context.Context, token string) error { return errStub }

// DeleteByUser ends a user's sessions but the one with exceptToken, which is the
// plain token as scs.SessionManager.Token returns it, or "".
func (s *SessionStore) DeleteByUser(ctx context.Context, userID, exceptToken string) error {
	return errStub
}
func (s *SessionStore) Sweep(ctx context.Context) error { return errStub }
