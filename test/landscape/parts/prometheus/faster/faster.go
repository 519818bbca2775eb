// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package faster divides all durations in rules by one factor, so that a test of an alert that fires after hours takes
// minutes. It changes parsed expressions, not text:
//
//   - ranges, offsets, subqueries and steps;
//   - the prediction of predict_linear;
//   - ages: the number that "time() - x" is compared with.
//
// What lies in the future stays as it is, such as the remaining life of a certificate, "x - time()". So do rates, which
// are per second, and counts, although less happens in a shorter range.
package faster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// Factor is the divisor.
type Factor int

// Duration divides a duration. Prometheus knows no duration below a millisecond.
func (f Factor) Duration(d model.Duration) model.Duration {
	return model.Duration((time.Duration(d) / time.Duration(f)).Round(time.Millisecond))
}

// Rules divides the durations in a file of rules.
func (f Factor) Rules(content []byte) ([]byte, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	var groups rulefmt.RuleGroups
	if err := decoder.Decode(&groups); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("decode rules: %w", err)
	}
	for i := range groups.Groups {
		group := &groups.Groups[i]
		group.Interval = f.Duration(group.Interval)
		for j := range group.Rules {
			rule := &group.Rules[j]
			rule.For, rule.KeepFiringFor = f.Duration(rule.For), f.Duration(rule.KeepFiringFor)
			var err error
			if rule.Expr, err = f.Expr(rule.Expr); err != nil {
				return nil, fmt.Errorf("rule %s%s: %w", rule.Record, rule.Alert, err)
			}
		}
	}
	return yaml.Marshal(groups)
}

// Expr divides the durations in an expression.
func (f Factor) Expr(text string) (string, error) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return "", err
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			f.divide(&n.OriginalOffset)
		case *parser.MatrixSelector:
			f.divide(&n.Range)
		case *parser.SubqueryExpr:
			f.divide(&n.Range)
			f.divide(&n.Step)
			f.divide(&n.OriginalOffset)
		case *parser.Call:
			if n.Func.Name == "predict_linear" {
				n.Args[1] = f.divided(n.Args[1])
			}
		case *parser.BinaryExpr:
			if n.Op.IsComparisonOperator() && isAge(n.LHS) {
				n.RHS = f.divided(n.RHS)
			} else if n.Op.IsComparisonOperator() && isAge(n.RHS) {
				n.LHS = f.divided(n.LHS)
			}
		}
		return nil
	})
	return expr.String(), nil
}

func (f Factor) divide(d *time.Duration) {
	*d = time.Duration(f.Duration(model.Duration(*d)))
}

// divided returns a number, or an expression of numbers, divided by the factor.
func (f Factor) divided(number parser.Expr) parser.Expr {
	return &parser.BinaryExpr{
		Op:  parser.DIV,
		LHS: &parser.ParenExpr{Expr: number},
		RHS: &parser.NumberLiteral{Val: float64(f)},
	}
}

// isAge reports whether an expression is the time since an event, "time() - x", or the absolute value of that.
func isAge(expr parser.Expr) bool {
	for {
		if parentheses, ok := expr.(*parser.ParenExpr); ok {
			expr = parentheses.Expr
		} else if call, ok := expr.(*parser.Call); ok && call.Func.Name == "abs" {
			expr = call.Args[0]
		} else {
			break
		}
	}
	difference, ok := expr.(*parser.BinaryExpr)
	if !ok || difference.Op != parser.SUB {
		return false
	}
	now, ok := difference.LHS.(*parser.Call)
	return ok && now.Func.Name == "time"
}
