package store

import (
	sqldriver "database/sql/driver"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"patrol/models"
)

// The row types are how records lie in tables, one to one with the columns of
// the migrations. They stay in this package.

type userRow struct {
	ID           string `gorm:"primaryKey"`
	Email        string
	Name         string
	PasswordHash string
	Admin        bool
	Policy       bool
	Disabled     bool
	CreatedAt    time.Time
	ProviderAt   *time.Time
}

func (userRow) TableName() string { return "users" }

func newUserRow(u models.User) userRow {
	u.CreatedAt = exact(u.CreatedAt)
	if u.ProviderAt != nil {
		at := exact(*u.ProviderAt)
		u.ProviderAt = &at
	}
	return userRow(u)
}

func (r userRow) model() models.User {
	r.CreatedAt, r.ProviderAt = r.CreatedAt.UTC(), utc(r.ProviderAt)
	return models.User(r)
}

type domainRow struct {
	ID          string `gorm:"primaryKey"`
	Name        string
	Status      models.DomainStatus
	MaxLifetime int64 // seconds
	NoWildcards bool
	Approval    bool
	CreatedAt   time.Time
}

func (domainRow) TableName() string { return "domains" }

func newDomainRow(d models.Domain) domainRow {
	return domainRow{ID: d.ID, Name: d.Name, Status: d.Status, CreatedAt: exact(d.CreatedAt)}.with(d.Limits)
}

func (r domainRow) with(l models.DomainLimits) domainRow {
	r.MaxLifetime, r.NoWildcards, r.Approval = int64(l.MaxLifetime/time.Second), l.NoWildcards, l.Approval
	return r
}

func (r domainRow) model() models.Domain {
	return models.Domain{ID: r.ID, Name: r.Name, Status: r.Status, CreatedAt: r.CreatedAt.UTC(), Limits: r.limits()}
}

func (r domainRow) limits() models.DomainLimits {
	return models.DomainLimits{MaxLifetime: time.Duration(r.MaxLifetime) * time.Second, NoWildcards: r.NoWildcards, Approval: r.Approval}
}

type membershipRow struct {
	UserID string `gorm:"primaryKey"`
	Domain string `gorm:"primaryKey"`
	Role   string
}

func (membershipRow) TableName() string { return "memberships" }

type patRow struct {
	ID            string `gorm:"primaryKey"`
	UserID        string
	Name          string
	NameHeld      bool
	Description   string
	KeyID         string
	MAC           []byte
	CreatedAt     time.Time
	ExpiresAt     time.Time
	RevokedAt     *time.Time
	RotatedTo     string
	LastUsedAt    *time.Time
	LastUsedIP    string
	LastUsedAgent string
	RevokedBy     models.RevokerKind
	RevokedDomain string
	RevokedReason string
	AllowedIPs    ipList         `gorm:"column:allowed_ips"`
	Scopes        scopeList      `gorm:"->;type:text"` // of dialect.patSelect, no column
	Approvals     approvalList   `gorm:"->;type:text"` // likewise
	Withdrawals   withdrawalList `gorm:"->;type:text"` // likewise
}

func (patRow) TableName() string { return "pats" }

// patColumns are the columns of a [patRow] but its lists, of the table pats as p.
const patColumns = `p.id, p.user_id, p.name, p.name_held, p.description, p.key_id, p.mac, p.created_at, p.expires_at,
	p.revoked_at, p.rotated_to, p.last_used_at, p.last_used_ip, p.last_used_agent,
	p.revoked_by, p.revoked_domain, p.revoked_reason, p.allowed_ips`

func newPATRow(p models.PAT) patRow {
	return patRow{
		ID: p.ID, UserID: p.UserID, Name: p.Name, Description: p.Description, KeyID: p.KeyID, MAC: p.MAC,
		CreatedAt: exact(p.CreatedAt), ExpiresAt: exact(p.ExpiresAt), NameHeld: true, AllowedIPs: p.AllowedIPs,
	}
}

func (r patRow) model() models.PAT {
	return models.PAT{
		ID: r.ID, UserID: r.UserID, Name: r.Name, Description: r.Description, KeyID: r.KeyID, MAC: r.MAC,
		Scopes: r.Scopes, CreatedAt: r.CreatedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(), RevokedAt: utc(r.RevokedAt),
		RotatedTo: r.RotatedTo, LastUsedAt: utc(r.LastUsedAt), LastUsedIP: r.LastUsedIP, LastUsedAgent: r.LastUsedAgent,
		Approvals: r.Approvals, Withdrawals: r.Withdrawals, AllowedIPs: r.AllowedIPs, Revoked: models.Revocation{By: r.RevokedBy, Domain: r.RevokedDomain, Reason: r.RevokedReason},
	}
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

type scopeRow struct {
	PATID      string `gorm:"column:pat_id;primaryKey"`
	Position   int    `gorm:"primaryKey;autoIncrement:false"`
	ID         string
	Domain     string
	EntityType string
	Entity     string
	Operation  string
}

func (scopeRow) TableName() string { return "scopes" }

func newScopeRow(patID string, position int, s models.Scope) scopeRow {
	return scopeRow{
		PATID: patID, Position: position, ID: s.ID,
		Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation,
	}
}

// scopeList reads the scopes that dialect.patSelect selects.
type scopeList []models.Scope

// Scan implements [database/sql.Scanner].
func (l *scopeList) Scan(from any) error {
	var fields [][5]string
	if err := scanList(from, &fields); err != nil {
		return fmt.Errorf("read scopes: %w", err)
	}
	*l = make(scopeList, len(fields))
	for i, f := range fields {
		(*l)[i] = models.Scope{ID: f[0], Domain: f[1], EntityType: f[2], Entity: f[3], Operation: f[4]}
	}
	return nil
}

// ipList is a list of addresses and ranges in one column, with spaces between them.
type ipList []string

// Scan implements [database/sql.Scanner].
func (l *ipList) Scan(from any) error {
	switch v := from.(type) {
	case string:
		*l = strings.Fields(v)
	case []byte:
		*l = strings.Fields(string(v))
	default:
		return fmt.Errorf("allowed addresses of type %T", from)
	}
	if len(*l) == 0 {
		*l = nil
	}
	return nil
}

// Value implements [sqldriver.Valuer].
func (l ipList) Value() (sqldriver.Value, error) { return strings.Join(l, " "), nil }

// approvalList reads the approvals that dialect.patSelect selects.
type approvalList []models.Approval

// Scan implements [database/sql.Scanner].
func (l *approvalList) Scan(from any) error {
	var fields []struct {
		Domain, By, Role string
		Micros, Platform int64
	}
	if err := scanList(from, &fields); err != nil {
		return fmt.Errorf("read approvals: %w", err)
	}
	*l = nil
	for _, f := range fields {
		*l = append(*l, models.Approval{Domain: f.Domain, By: f.By, At: time.UnixMicro(f.Micros).UTC(), Platform: f.Platform > 0, Role: f.Role})
	}
	return nil
}

// withdrawalList reads the withdrawals that dialect.patSelect selects.
type withdrawalList []models.Withdrawal

// Scan implements [database/sql.Scanner].
func (l *withdrawalList) Scan(from any) error {
	var fields []struct {
		Domain, By, Reason string
		Micros             int64
	}
	if err := scanList(from, &fields); err != nil {
		return fmt.Errorf("read withdrawals: %w", err)
	}
	*l = nil
	for _, f := range fields {
		*l = append(*l, models.Withdrawal{Domain: f.Domain, By: f.By, Reason: f.Reason, At: time.UnixMicro(f.Micros).UTC()})
	}
	return nil
}

// scanList reads a list that a database made as JSON; none is no list.
func scanList(from, list any) error {
	switch v := from.(type) {
	case nil:
		return nil
	case string:
		return json.Unmarshal([]byte(v), list)
	case []byte:
		return json.Unmarshal(v, list)
	}
	return fmt.Errorf("a list of type %T", from)
}

type changeRow struct {
	Seq   int64
	Kind  ChangeKind
	Key   string
	Key2  string `gorm:"column:key2"`
	At    time.Time
	Nonce string
	XID   string `gorm:"column:xid"` // of PostgreSQL
}

func toChanges(rows []changeRow, committed bool) []Change {
	changes := make([]Change, len(rows))
	for i, r := range rows {
		changes[i] = Change{Seq: r.Seq, Kind: r.Kind, Key: r.Key, Key2: r.Key2, At: r.At.UTC()}
		if !committed {
			changes[i].Seq = 0
		}
	}
	return changes
}

type auditRow struct {
	ID           int64 `gorm:"primaryKey;autoIncrement"`
	At           time.Time
	ActorKind    models.ActorKind
	ActorUserID  string
	ActorTokenID string
	IP           string
	UserAgent    string
	RequestID    string
	Action       string
	Subject      string
	Detail       string // a JSON object of strings
}

func (auditRow) TableName() string { return "audit_events" }

// nfc brings a name into the one of its equivalent spellings that is stored and
// compared (Unicode Standard Annex 15), so that two names that look the same are.
func nfc(name string) string { return norm.NFC.String(name) }

// storable reports whether both databases can hold the text. PostgreSQL takes
// neither NUL nor invalid UTF-8; as a key such a text finds nothing.
func storable(texts ...string) bool {
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return false
		}
	}
	return true
}

// maxNote bounds the bytes that are kept of a text that a client chose and nothing
// depends on, such as its User-Agent.
const maxNote = 512

// note makes such a text storable.
func note(text string) string {
	if len(text) > maxNote {
		text = text[:maxNote]
	}
	return clean(text)
}
